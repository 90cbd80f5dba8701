# An S3 store (versitygw) over a folder of one host, for a region that tries Lightcone out:
# usage records, bills and invoices are in it. Production has its provider's S3 instead;
# what is not stored while this one is away waits on the disks of gateways and workers.
#
# Its folder is that of the host volume; each bucket is a folder in it. Whoever uses it has
# the items usage_access_key_id and usage_secret_access_key of the Nomad variable nomad/jobs.

variable "datacenters" {
  description = "Datacenters to run in."
  type        = list(string)
  default     = ["*"]
}

variable "server_url" {
  description = "Where an archive with versitygw is: one of its project's releases, or what make agents packs."
  type        = string
  validation {
    condition     = regex_replace(var.server_url, "^(https?|s3|gcs)://.+[.]tar[.]gz$", "") == "" && var.server_url != ""
    error_message = "The server_url must be the http(s), s3 or gcs address of a .tar.gz."
  }
}

variable "server_sha256" {
  description = "SHA-256 of what is there, in hexadecimal."
  type        = string
  validation {
    condition     = regex_replace(var.server_sha256, "^[0-9a-f]{64}$", "") == "" && var.server_sha256 != ""
    error_message = "The server_sha256 must be 64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "volume" {
  description = "The host volume with the buckets; the store runs on the host that has it."
  type        = string
  default     = "store"
}

variable "bucket" {
  description = "A bucket to make if it is missing."
  type        = string
  default     = "usage"
  validation {
    condition     = regex_replace(var.bucket, "^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", "") == "" && var.bucket != ""
    error_message = "The bucket must have 3 to 63 lower-case letters, digits and inner hyphens."
  }
}

variable "s3_region" {
  description = "The region that the store says it is, and that requests are signed for."
  type        = string
  default     = "eu-central-1"
}

variable "port" {
  description = "Port of the S3 API, on the host's private address."
  type        = number
  default     = 7070
  validation {
    condition     = var.port >= 1024 && var.port <= 65535
    error_message = "The port must be 1024 to 65535: the store runs without privileges."
  }
}

variable "cpu" {
  description = "CPU share, in MHz."
  type        = number
  default     = 200
}

variable "memory" {
  description = "Memory in MB."
  type        = number
  default     = 192
}

job "store" {
  datacenters = var.datacenters
  type        = "service"

  group "store" {
    count = 1 # a second one would not know of the first one's writes

    volume "store" {
      type   = "host"
      source = var.volume
    }

    # Its port and its folder are taken while it runs, so there is no canary.
    update {
      max_parallel      = 1
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "3s"
      healthy_deadline  = "45s"
      progress_deadline = "0s"
    }

    restart {
      attempts = 10
      interval = "1m"
      delay    = "1s"
      mode     = "delay"
    }

    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }

    network {
      port "s3" {
        static = var.port
      }
    }

    service {
      name = "store"
      port = "s3"
      check {
        name     = "answers"
        type     = "http"
        path     = "/health"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "versitygw" {
      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      artifact {
        source = var.server_url
        options {
          checksum = "sha256:${var.server_sha256}"
        }
      }

      volume_mount {
        volume      = "store"
        destination = "/store"
      }

      config {
        command = "/bin/sh"
        args    = ["${NOMAD_TASK_DIR}/store.sh"]
      }

      template {
        destination = "${NOMAD_TASK_DIR}/store.sh"
        change_mode = "noop"
        data        = <<-SH
          # Beside the buckets: what S3 knows of objects and the file system does not.
          set -eu
          PATH=/usr/bin:/bin
          mkdir -p /store/buckets/${var.bucket} /store/attributes
          for server in "$NOMAD_TASK_DIR"/versitygw "$NOMAD_TASK_DIR"/*/versitygw; do
            [ ! -f "$server" ] || break
          done
          exec "$server" --quiet --health /health --region ${var.s3_region} --port "$NOMAD_ADDR_s3" \
            posix --sidecar /store/attributes /store/buckets
        SH
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/store.env"
        env         = true
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs" }}ROOT_ACCESS_KEY={{ .usage_access_key_id }}
          ROOT_SECRET_KEY={{ .usage_secret_access_key }}{{ end }}
        EOT
        change_mode = "restart"
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
