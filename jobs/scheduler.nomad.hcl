# The scheduler: three of them stand for election in Consul, and the leader sets
# how many workers each function has.

variable "datacenters" {
  description = "Datacenters to run in."
  type        = list(string)
  default     = ["*"]
}

variable "release_url" {
  description = "Where Lightcone's release is: an address of its .tar.gz."
  type        = string
  validation {
    condition     = regex_replace(var.release_url, "^(https?|s3|gcs)://.+[.]tar[.]gz$", "") == "" && var.release_url != ""
    error_message = "The release_url must be the http(s), s3 or gcs address of a .tar.gz that make release made."
  }
}

variable "keys_revision" {
  description = "Counted up when the keys in the Nomad variable nomad/jobs have changed, to have them read."
  type        = number
  default     = 1
}

variable "release_sha256" {
  description = "SHA-256 of the release, in hexadecimal: a release that was changed on the way does not start."
  type        = string
  validation {
    condition     = regex_replace(var.release_sha256, "^[0-9a-f]{64}$", "") == "" && var.release_sha256 != ""
    error_message = "The release_sha256 must be 64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "policies" {
  description = "What the scheduler keeps, as JSON: a list with a function, its floor and ceiling in workers, and whatever else `lightcone scheduler --help` lists."
  type        = string
  default     = "[{\"function\":\"resize\",\"floor\":3,\"ceiling\":12}]"
  validation {
    condition     = regex_replace(var.policies, "(?s)^\\s*\\[.*\"function\".*\\]\\s*$", "") == ""
    error_message = "The policies must be a JSON list of objects, each with a function."
  }
}

variable "count" {
  description = "Schedulers: one leads, the others wait for its end."
  type        = number
  default     = 3
}

job "scheduler" {
  datacenters = var.datacenters
  type        = "service"

  group "scheduler" {
    count = var.count

    spread {
      attribute = "${meta.rack}"
    }

    constraint {
      attribute = "${node.class}"
      value     = "worker"
    }

    # A new build, or a new configuration, which is the same here, first proves
    # itself as one scheduler of many. If it does not become healthy, all goes back.
    update {
      canary            = 1
      max_parallel      = 1
      auto_promote      = true
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "5s"
      healthy_deadline  = "60s"
      progress_deadline = "0s" # the first that fails ends it
    }

    restart {
      attempts = 3
      interval = "1m"
      delay    = "1s"
      mode     = "fail"
    }

    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }

    # A rack that is cut off gets replacements elsewhere, and its own back when it heals.
    disconnect {
      lost_after = "1h"
      replace    = true
      reconcile  = "keep_original"
    }

    network {
      port "manage" {}
    }

    service {
      name = "scheduler"
      port = "manage"
      tags = ["metrics", "status"]
      check {
        name     = "stands for election"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "scheduler" {
      meta {
        keys_revision = var.keys_revision
      }

      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGTERM"
      kill_timeout = "15s"

      consul {}

      # It speaks to Nomad through the task API, as itself.
      identity {
        env = true
      }

      artifact {
        source = var.release_url
        options {
          checksum = "sha256:${var.release_sha256}"
        }
      }

      config {
        command = "local/lightcone"
        args    = ["scheduler"]
      }

      env {
        LIGHTCONE_MANAGE            = "${NOMAD_IP_manage}:${NOMAD_PORT_manage}"
        LIGHTCONE_NAME              = "${NOMAD_ALLOC_ID}"
        LIGHTCONE_POLICIES          = "${var.policies}"
        LIGHTCONE_NOMAD             = "unix://${NOMAD_SECRETS_DIR}/api.sock"
        LIGHTCONE_FLEET_KEY_FILE    = "${NOMAD_SECRETS_DIR}/fleet.key"
        LIGHTCONE_OPERATOR_KEY_FILE = "${NOMAD_SECRETS_DIR}/operator.key"
      }

      # The keys come from the Nomad variable nomad/jobs. They are read at the start:
      # with other keys, count keys_revision up, and the update is like any other.
      template {
        destination = "${NOMAD_SECRETS_DIR}/fleet.key"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .fleet_key }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/operator.key"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .operator_key }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }

      resources {
        cpu    = 100
        memory = 96
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }
    }
  }
}
