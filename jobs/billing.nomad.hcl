# What the calls of each hour used, billed ten minutes after it is over, when its records
# are in the bucket: mappers over the racks, each with a share of the calls, and a reducer,
# which makes the month's invoices too. Bills and invoices go to the same bucket.
#
#   nomad job run -var-file=… -var usage_bucket='s3://usage?region=…' -var prices="$(cat usage/billing/prices.json)" jobs/billing.nomad.hcl
#
# The reducer also bills again the hours before it to which late records have come.
#
# With -var when=asked it is the job billing-hour: it bills an hour at once, or again when records
# have come to one that is too old for that. What is right already is not changed.
#
#   nomad job dispatch -meta hour=2026-11-03T14 billing-hour

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

variable "release_sha256" {
  description = "SHA-256 of the release, in hexadecimal: a release that was changed on the way does not start."
  type        = string
  validation {
    condition     = regex_replace(var.release_sha256, "^[0-9a-f]{64}$", "") == "" && var.release_sha256 != ""
    error_message = "The release_sha256 must be 64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "usage_bucket" {
  description = "URL of the bucket that gateways and workers bring usage records to; the same as theirs."
  type        = string
  default     = ""
}

variable "when" {
  description = "hourly bills every hour when it is over; asked, an hour that is named when the job is dispatched."
  type        = string
  default     = "hourly"
  validation {
    condition     = contains(["hourly", "asked"], var.when)
    error_message = "The when must be hourly or asked."
  }
}

variable "prices" {
  description = "The price list: the JSON text itself, as in usage/billing/prices.json."
  type        = string
  default     = ""
}

variable "shares" {
  description = "Mappers, each with a share of an hour's calls: about one for 30 million."
  type        = number
  default     = 3
  validation {
    condition     = var.shares >= 1 && var.shares <= 100
    error_message = "The shares must be 1 to 100."
  }
}

variable "memory" {
  description = "Memory (MB) of a mapper and of the reducer; what does not fit is folded on disk."
  type        = number
  default     = 768
  validation {
    condition     = var.memory >= 384
    error_message = "The memory of a mapper must be at least 384 MB."
  }
}

job "billing" {
  id          = var.when == "hourly" ? "billing" : "billing-hour"
  name        = var.when == "hourly" ? "billing" : "billing-hour"
  datacenters = var.datacenters
  type        = "batch"

  dynamic "periodic" {
    for_each = var.when == "hourly" ? [1] : []
    content {
      crons            = ["10 * * * *"]
      time_zone        = "UTC"
      prohibit_overlap = true
    }
  }

  dynamic "parameterized" {
    for_each = var.when == "asked" ? [1] : []
    content {
      payload       = "forbidden"
      meta_required = ["hour"]
    }
  }

  dynamic "group" {
    for_each = { map = var.shares, reduce = 1 }
    labels   = [group.key]

    content {
      count = group.value

      spread {
        attribute = "${meta.rack}"
      }

      constraint {
        attribute = "${node.class}"
        value     = "worker"
      }

      restart {
        attempts = 3
        interval = "10m"
        delay    = "5s"
        mode     = "fail"
      }

      # Another machine does the same again: a partial or a bill is written whole or not at all.
      reschedule {
        attempts       = 3
        interval       = "30m"
        delay          = "15s"
        delay_function = "constant"
        unlimited      = false
      }

      ephemeral_disk {
        size = 4000 # copies of an hour's records
      }

      task "billing" {
        driver       = "exec"
        user         = "nobody"
        kill_signal  = "SIGTERM"
        kill_timeout = "30s"

        artifact {
          source = var.release_url
          options {
            checksum = "sha256:${var.release_sha256}"
          }
        }

        config {
          command = "local/lightcone-billing"
          args    = [group.key]
        }

        # The run is the job's id, the share the allocation's index, both from Nomad itself.
        env {
          LIGHTCONE_BILLING_BUCKET  = "${var.usage_bucket}"
          LIGHTCONE_BILLING_HOUR    = var.when == "hourly" ? "last" : "$${NOMAD_META_hour}"
          LIGHTCONE_BILLING_SHARES  = "${var.shares}"
          LIGHTCONE_BILLING_MEMORY  = "${floor(var.memory * 0.6)}"
          LIGHTCONE_BILLING_THREADS = "1"
          LIGHTCONE_BILLING_SCRATCH = "${NOMAD_ALLOC_DIR}/data"
          LIGHTCONE_BILLING_PRICES  = "${NOMAD_TASK_DIR}/prices.json"
        }

        template {
          destination = "${NOMAD_TASK_DIR}/prices.json"
          data        = var.prices
          change_mode = "noop"
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

        resources {
          cpu    = 500
          memory = var.memory
        }

        logs {
          max_files     = 3
          max_file_size = 5
        }
      }
    }
  }
}
