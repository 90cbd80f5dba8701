# The management plane: tenants, their keys and quotas, the audit trail, and what is
# in quarantine. Operators reach it by the front door's operators' port, and the public
# port never does. Any instance takes any change: each is a compare-and-set in Consul.

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

variable "count" {
  description = "Instances, spread over the racks: with 2 or more, changes can be made while one is lost."
  type        = number
  default     = 2
  validation {
    condition     = var.count >= 1 && var.count <= 7
    error_message = "The count of the management plane must be 1 to 7."
  }
}

variable "redis_service" {
  description = "The Sentinels' service in Consul; \"\" is for a region without Redis."
  type        = string
  default     = "redis-sentinel"
}

variable "cpu" {
  description = "CPU share, in MHz."
  type        = number
  default     = 100
}

variable "memory" {
  description = "Memory in MB."
  type        = number
  default     = 128
}

job "identity" {
  datacenters = var.datacenters
  type        = "service"

  group "identity" {
    count = var.count

    spread {
      attribute = "${meta.rack}"
    }

    constraint {
      attribute = "${node.class}"
      value     = "worker"
    }

    # A new build, or a new configuration, which is the same here, first proves
    # itself as one instance of many. If it does not become healthy, all goes back.
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
      name = "identity"
      port = "manage"
      tags = ["metrics", "management"]
      check {
        name     = "takes changes"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "identity" {
      meta {
        keys_revision = var.keys_revision
      }

      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGTERM"
      kill_timeout = "15s"

      consul {}

      artifact {
        source = var.release_url
        options {
          checksum = "sha256:${var.release_sha256}"
        }
      }

      config {
        command = "local/lightcone"
        args    = ["identity"]
      }

      env {
        GOMEMLIMIT                       = "${floor(var.memory * 0.85)}MiB"
        LIGHTCONE_MANAGE                 = "${NOMAD_IP_manage}:${NOMAD_PORT_manage}"
        LIGHTCONE_OPERATOR_KEY_FILE      = "${NOMAD_SECRETS_DIR}/operator.key"
        LIGHTCONE_REDIS_SERVICE          = "${var.redis_service}"
        LIGHTCONE_REDIS_PASSWORD_FILE    = "${NOMAD_SECRETS_DIR}/redis.password"
        LIGHTCONE_SENTINEL_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/sentinel.password"
        LIGHTCONE_CALLBACK_KEY_FILE      = "${NOMAD_SECRETS_DIR}/callback.key"
      }

      # The keys come from the Nomad variable nomad/jobs. They are read at the start:
      # with other keys, count keys_revision up, and the update is like any other.
      template {
        destination = "${NOMAD_SECRETS_DIR}/redis.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .redis_password }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/sentinel.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .sentinel_password }}{{ end }}"
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
      template {
        destination = "${NOMAD_SECRETS_DIR}/callback.key"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .callback_key }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }
    }
  }
}
