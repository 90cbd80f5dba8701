# The fleet of one function: each worker runs its processes, confined and metered,
# and gateways send it calls. The scheduler sets the count between the bounds.

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

variable "function" {
  description = "The function this fleet runs: a name that comes with Lightcone, such as resize, or NAME=PATH with an executable on the workers' machines, below a folder that their chroot_env shows to tasks."
  type        = string
  default     = "resize"
  validation {
    condition     = regex_replace(var.function, "^[a-z][a-z0-9-]{0,15}(=/.+)?$", "") == "" && var.function != ""
    error_message = "The function must be a name of at most 16 lower-case letters, digits and dashes, or NAME=/PATH/OF/EXECUTABLE."
  }
}

variable "floor" {
  description = "The fewest workers. 0 lets the scheduler stop the last one while nobody calls."
  type        = number
  default     = 3
  validation {
    condition     = var.floor >= 0
    error_message = "The floor must be 0 or more workers."
  }
}

variable "ceiling" {
  description = "The most workers."
  type        = number
  default     = 12
  validation {
    condition     = var.ceiling >= 1
    error_message = "The ceiling must be at least 1 worker."
  }
}

variable "slots" {
  description = "Calls that each worker runs at once: as many as it has cores."
  type        = number
  default     = 1
  validation {
    condition     = var.slots >= 1 && var.slots <= 1024
    error_message = "The slots must be 1 to 1024, one for each core."
  }
}

variable "usage_bucket" {
  description = "URL of the bucket that records of what calls used are brought to, such as s3://usage?region=eu-central-1; \"\" is for a region that keeps none. Hosts must have its credentials, or nomad/jobs the items usage_access_key_id and usage_secret_access_key."
  type        = string
  default     = ""
}

variable "usage_volume" {
  description = "The host volume in which usage records wait for the bucket."
  type        = string
  default     = "usage"
}

variable "queue_service" {
  description = "The queue nodes' service in Consul; \"\" is for a region without a queue."
  type        = string
  default     = "queue"
}

variable "queue_keep" {
  description = "How long the result of a queued call stays, as a Go duration; the same as the queue nodes'."
  type        = string
  default     = "24h"
}

variable "redis_service" {
  description = "The Sentinels' service in Consul; \"\" is for a region without Redis."
  type        = string
  default     = "redis-sentinel"
}

variable "cpu" {
  description = "CPU share, in MHz; ignored where cores is not 0."
  type        = number
  default     = 1000
}

variable "cores" {
  description = "Cores for this worker alone; 0 shares them by cpu."
  type        = number
  default     = 0
}

variable "memory" {
  description = "Memory in MB that is set aside for it: 64 MB for itself and 80 MB for each slot and the spare are usual."
  type        = number
  default     = 256
}

variable "memory_max" {
  description = "Memory in MB that it may use for a moment, where Nomad allows oversubscription: a slot may take 1536 MB for the largest image."
  type        = number
  default     = 2048
}

locals {
  name = split("=", var.function)[0]
}

job "worker" {
  id          = "worker-${local.name}"
  name        = "worker-${local.name}"
  datacenters = var.datacenters
  type        = "service"

  group "worker" {
    # No count: it starts at the floor. An update keeps what the scheduler set if it
    # is told to: preserve_counts in Terraform, `nomad job run -preserve-counts`.
    scaling {
      enabled = true
      min     = var.floor
      max     = var.ceiling
    }

    spread {
      attribute = "${meta.rack}"
    }

    constraint {
      attribute = "${node.class}"
      value     = "worker"
    }

    # A new build, or a new configuration, which is the same here, first proves
    # itself as one worker of many. If it does not become healthy, all goes back.
    update {
      canary           = 1
      max_parallel     = 1
      auto_promote     = true
      auto_revert      = true
      health_check     = "checks"
      min_healthy_time = "3s"
      healthy_deadline = "60s"
      # Not 0: growth is a deployment, too, and one new worker on a bad machine must
      # not take the others back with it. It is tried again elsewhere until then.
      progress_deadline = "90s"
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

    # Ledgers outlast their processes here: neighbours bring to the bucket what is left.
    dynamic "volume" {
      for_each = var.usage_bucket == "" ? [] : [var.usage_volume]
      labels   = ["usage"]
      content {
        type   = "host"
        source = volume.value
      }
    }

    network {
      port "calls" {}
      port "manage" {}
    }

    service {
      name = "worker-${local.name}"
      port = "calls"
      tags = ["calls"]
      meta {
        version = "${var.release_sha256}"
      }
      check {
        name     = "has a live process"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    service {
      name = "worker-${local.name}-manage"
      port = "manage"
      tags = ["metrics"]
      check {
        name     = "is alive"
        type     = "http"
        path     = "/healthz"
        interval = "5s"
        timeout  = "1s"
      }
    }

    task "worker" {
      meta {
        keys_revision = var.keys_revision
      }

      driver = "exec"
      user   = "nobody"

      # Out of Consul first; the gateways notice; then the calls that run are
      # answered, others are sent elsewhere; then it ends.
      shutdown_delay = "3s"
      kill_signal    = "SIGTERM"
      kill_timeout   = "75s"

      consul {}

      artifact {
        source = var.release_url
        options {
          checksum = "sha256:${var.release_sha256}"
        }
      }

      dynamic "volume_mount" {
        for_each = var.usage_bucket == "" ? [] : [var.usage_volume]
        content {
          volume      = "usage"
          destination = "/usage"
        }
      }

      config {
        command = "local/lightcone"
        args    = ["worker"]
      }

      env {
        LIGHTCONE_LISTEN            = "${NOMAD_IP_calls}:${NOMAD_PORT_calls}"
        LIGHTCONE_MANAGE            = "${NOMAD_IP_manage}:${NOMAD_PORT_manage}"
        LIGHTCONE_FUNCTION          = "${var.function}"
        LIGHTCONE_SLOTS             = "${var.slots}"
        LIGHTCONE_SOCKETS           = "${NOMAD_TASK_DIR}/run"
        LIGHTCONE_FLEET_KEY_FILE    = "${NOMAD_SECRETS_DIR}/fleet.key"
        LIGHTCONE_OPERATOR_KEY_FILE = "${NOMAD_SECRETS_DIR}/operator.key"
        # Where it takes calls from that nobody waits for.
        LIGHTCONE_QUEUE_SERVICE       = "${var.queue_service}"
        LIGHTCONE_QUEUE_KEEP          = "${var.queue_keep}"
        LIGHTCONE_QUEUE_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/queue.password"
        LIGHTCONE_QUEUE_CA_FILE       = "${NOMAD_SECRETS_DIR}/queue-ca.pem"
        # What calls used is written down here, until the bucket has it. A rack that heals has it still.
        LIGHTCONE_USAGE_BUCKET = "${var.usage_bucket}"
        LIGHTCONE_USAGE_DIR    = var.usage_bucket == "" ? "" : "/usage/worker-$${NOMAD_ALLOC_ID}"
        LIGHTCONE_USAGE_NODE   = var.usage_bucket == "" ? "" : "worker-$${NOMAD_ALLOC_ID}"
        LIGHTCONE_USAGE_ADOPT  = var.usage_bucket == "" ? "" : "/usage"
        # Where it tells what they used of their tenants' month.
        LIGHTCONE_REDIS_SERVICE          = "${var.redis_service}"
        LIGHTCONE_REDIS_PASSWORD_FILE    = "${NOMAD_SECRETS_DIR}/redis.password"
        LIGHTCONE_SENTINEL_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/sentinel.password"
      }

      # The bucket's credentials, if the hosts have none of their own.
      template {
        destination = "${NOMAD_SECRETS_DIR}/usage.env"
        env         = true
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs" }}{{ if .usage_access_key_id }}AWS_ACCESS_KEY_ID={{ .usage_access_key_id }}
          AWS_SECRET_ACCESS_KEY={{ .usage_secret_access_key }}{{ end }}{{ end }}
        EOT
        change_mode = "noop"
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
      template {
        destination = "${NOMAD_SECRETS_DIR}/queue.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .queue_password }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/queue-ca.pem"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .queue_ca }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }
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

      resources {
        cpu        = var.cores == 0 ? var.cpu : null
        cores      = var.cores == 0 ? null : var.cores
        memory     = var.memory
        memory_max = max(var.memory, var.memory_max)
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }
    }
  }
}
