# A whole folder or bucket at once, in shares: `nomad job dispatch` starts one run.
#
#   nomad job dispatch -meta in=file:///photographs/in -meta out=file:///photographs/out \
#     -meta params=width=300 resize-bulk
#
# A run that was interrupted goes on when it is dispatched again with the same out.

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

variable "shares" {
  description = "Allocations that a run is split over."
  type        = number
  default     = 3
  validation {
    condition     = var.shares >= 1 && var.shares <= 1000
    error_message = "The shares must be 1 to 1000."
  }
}

variable "slots" {
  description = "Images that each share resizes at once: as many as it has cores."
  type        = number
  default     = 1
}

variable "volume" {
  description = "The host volume that is mounted at /photographs; empty when everything is in buckets."
  type        = string
  default     = "photographs"
}

job "resize-bulk" {
  datacenters = var.datacenters
  type        = "batch"

  parameterized {
    meta_required = ["in", "out"]
    meta_optional = ["params", "run"]
  }

  # Empty unless the dispatch says otherwise.
  meta {
    params = ""
    run    = "resize-bulk"
  }

  group "share" {
    count = var.shares

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

    # What is finished is not done again, so another machine may go on.
    reschedule {
      attempts       = 5
      interval       = "1h"
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = false
    }

    dynamic "volume" {
      for_each = var.volume == "" ? [] : [var.volume]
      labels   = ["photographs"]
      content {
        type   = "host"
        source = volume.value
      }
    }

    task "share" {
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

      dynamic "volume_mount" {
        for_each = var.volume == "" ? [] : [var.volume]
        content {
          volume      = "photographs"
          destination = "/photographs"
        }
      }

      config {
        command = "local/lightcone"
        args    = ["bulk", "run"]
      }

      env {
        LIGHTCONE_BULK_IN     = "${NOMAD_META_in}"
        LIGHTCONE_BULK_OUT    = "${NOMAD_META_out}"
        LIGHTCONE_BULK_PARAMS = "${NOMAD_META_params}"
        LIGHTCONE_BULK_SHARES = "${var.shares}"
        LIGHTCONE_BULK_JOB    = "${NOMAD_META_run}"
        LIGHTCONE_BULK_SLOTS  = "${var.slots}"
      }

      resources {
        cpu        = 500 * var.slots
        memory     = 160 + 80 * var.slots
        memory_max = 2048
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }
    }
  }
}
