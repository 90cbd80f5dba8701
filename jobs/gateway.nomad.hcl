# The front door's gateways: they turn HTTP into authorised, admitted, dispatched
# calls. Any of them can be lost: the load balancer sends its calls to the others.

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
  description = "Gateways, spread over the racks."
  type        = number
  default     = 3
  validation {
    condition     = var.count >= 1 && var.count <= 1000
    error_message = "The count of gateways must be 1 to 1000; 2 or more, or an update stops the front door."
  }
}

variable "functions" {
  description = "Functions that can be called, separated by commas. NAME:cold=10s is one whose first worker is started when it is called: calls wait for it for so long."
  type        = string
  default     = "resize,echo:cold=15s"
  validation {
    condition     = regex_replace(var.functions, "^[a-z][a-z0-9-]*(:cold=[0-9]+s)?(,[a-z][a-z0-9-]*(:cold=[0-9]+s)?)*$", "") == "" && var.functions != ""
    error_message = "The functions must be names of lower-case letters, digits and dashes, separated by commas, each with :cold=SECONDSs where it may be scaled to zero."
  }
}

variable "max_wait" {
  description = "The longest wait for a free slot that a call is accepted with, as a Go duration."
  type        = string
  default     = "200ms"
}

variable "redis_service" {
  description = "The Sentinels' service in Consul; \"\" is for a region without Redis."
  type        = string
  default     = "redis-sentinel"
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

variable "callback_allow" {
  description = "Networks, such as 10.1.0.0/16, that callbacks may go to beside the public Internet; the same as the queue nodes'."
  type        = list(string)
  default     = []
}

variable "callback_forbid" {
  description = "Networks that callbacks may not go to: the public addresses of the region's own machines; the same as the queue nodes'."
  type        = list(string)
  default     = []
}

variable "cpu" {
  description = "CPU share, in MHz."
  type        = number
  default     = 500
}

variable "memory" {
  description = "Memory in MB: bodies and answers in flight are bounded to a third of it."
  type        = number
  default     = 512
  validation {
    condition     = var.memory >= 128
    error_message = "The memory of a gateway must be at least 128 MB."
  }
}

job "gateway" {
  datacenters = var.datacenters
  type        = "service"

  group "gateway" {
    count = var.count

    spread {
      attribute = "${meta.rack}"
    }

    constraint {
      attribute = "${node.class}"
      value     = "worker"
    }

    # A new build, or a new configuration, which is the same here, first proves
    # itself as one gateway of many. If it does not become healthy, all goes back.
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
      name = "gateway"
      port = "calls"
      tags = ["calls"]
      meta {
        version = "${var.release_sha256}"
      }
      check {
        name     = "takes calls"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    service {
      name = "gateway-manage"
      port = "manage"
      tags = ["metrics", "demand"]
      check {
        name     = "is alive"
        type     = "http"
        path     = "/healthz"
        interval = "5s"
        timeout  = "1s"
      }
    }

    task "gateway" {
      meta {
        keys_revision = var.keys_revision
      }

      driver = "exec"
      user   = "nobody"

      # Out of Consul first; the load balancer notices; then the calls that have
      # arrived are answered; then it ends.
      shutdown_delay = "4s"
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
        args    = ["gateway"]
      }

      env {
        GOMEMLIMIT                  = "${floor(var.memory * 0.85)}MiB"
        LIGHTCONE_LISTEN            = "${NOMAD_IP_calls}:${NOMAD_PORT_calls}"
        LIGHTCONE_MANAGE            = "${NOMAD_IP_manage}:${NOMAD_PORT_manage}"
        LIGHTCONE_FUNCTIONS         = "${var.functions}"
        LIGHTCONE_MAX_WAIT          = "${var.max_wait}"
        LIGHTCONE_MEMORY_MIB        = "${var.memory}"
        LIGHTCONE_FLEET_KEY_FILE    = "${NOMAD_SECRETS_DIR}/fleet.key"
        LIGHTCONE_OPERATOR_KEY_FILE = "${NOMAD_SECRETS_DIR}/operator.key"
        # Who may call is in Consul; Redis answers sooner, and for all gateways.
        LIGHTCONE_REDIS_SERVICE          = "${var.redis_service}"
        LIGHTCONE_REDIS_PASSWORD_FILE    = "${NOMAD_SECRETS_DIR}/redis.password"
        LIGHTCONE_SENTINEL_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/sentinel.password"
        # Where calls that nobody waits for are kept.
        LIGHTCONE_QUEUE_SERVICE       = "${var.queue_service}"
        LIGHTCONE_QUEUE_KEEP          = "${var.queue_keep}"
        LIGHTCONE_QUEUE_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/queue.password"
        LIGHTCONE_QUEUE_CA_FILE       = "${NOMAD_SECRETS_DIR}/queue-ca.pem"
        # What calls used is written down here, until the bucket has it. A rack that heals has it still.
        LIGHTCONE_USAGE_BUCKET    = "${var.usage_bucket}"
        LIGHTCONE_USAGE_DIR       = var.usage_bucket == "" ? "" : "/usage/gateway-$${NOMAD_ALLOC_ID}"
        LIGHTCONE_USAGE_NODE      = var.usage_bucket == "" ? "" : "gateway-$${NOMAD_ALLOC_ID}"
        LIGHTCONE_USAGE_ADOPT     = var.usage_bucket == "" ? "" : "/usage"
        LIGHTCONE_CALLBACKS       = "true" # the queue's nodes have a key to sign them with
        LIGHTCONE_CALLBACK_ALLOW  = "${join(",", var.callback_allow)}"
        LIGHTCONE_CALLBACK_FORBID = "${join(",", var.callback_forbid)}"
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
