# The queue's nodes: three, on three racks, each with a copy of all accepted calls. Two
# of three are enough, and one alone accepts nothing; so never are two down at once.
#
# What a node keeps is on its host's disk, and a successor on the same host finds it
# there (sticky). It is not carried to another host: a node that comes with an empty
# folder is a new one in the same seat (NOMAD_ALLOC_INDEX), and the two others fill it,
# which is as quick and cannot leave it with half of what the old one had confirmed.
# Accepted calls are lost only with the disks of two hosts.

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

variable "store" {
  description = "Disk of a node in MB: an eighth of it each is for calls that wait, their records, and large inputs and results."
  type        = number
  default     = 10240
  validation {
    condition     = var.store >= 256
    error_message = "The store of a queue node must be at least 256 MB."
  }
}

variable "keep" {
  description = "How long the result of a queued call stays, as a Go duration; the same as the gateways' and workers'."
  type        = string
  default     = "24h"
}

variable "kept_share" {
  description = "Most that one tenant may have of each kind of thing that is kept, as a part of it: 1 if there is only one tenant."
  type        = number
  default     = 0.25
  validation {
    condition     = var.kept_share >= 0.01 && var.kept_share <= 1
    error_message = "The kept_share of a tenant must be from 0.01 to 1."
  }
}

variable "callback_allow" {
  description = "Networks, such as 10.1.0.0/16, that callbacks may go to beside the public Internet; the same as the gateways'."
  type        = list(string)
  default     = []
}

variable "callback_forbid" {
  description = "Networks that callbacks may not go to: the public addresses of the region's own machines; the same as the gateways'."
  type        = list(string)
  default     = []
}

variable "cpu" {
  description = "CPU share of a node, in MHz."
  type        = number
  default     = 500
}

variable "memory" {
  description = "Memory of a node in MB."
  type        = number
  default     = 512
  validation {
    condition     = var.memory >= 128
    error_message = "The memory of a queue node must be at least 128 MB."
  }
}

job "queue" {
  datacenters = var.datacenters
  type        = "service"

  group "queue" {
    count = 3

    constraint {
      attribute = "${node.class}"
      value     = "worker"
    }

    # A majority must survive any one rack. Where the third has none to go to, the
    # two others go on.
    constraint {
      distinct_property = "${meta.rack}"
    }

    # One after the other, and each must have again all that it keeps before the next:
    # never two down. No canary: a fourth node would be a member of the cluster.
    update {
      max_parallel      = 1
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "2m" # to read what its disk has; then all goes back to what was there before
      progress_deadline = "0s"
    }

    # Its disk is here: try here, for as long as the host is.
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

    # A rack that is cut off gets its own back when it heals, with its disk. Somebody
    # else has its seat only when it stays away.
    disconnect {
      lost_after = "1h"
      replace    = false
      reconcile  = "keep_original"
    }

    ephemeral_disk {
      sticky  = true
      migrate = false
      size    = var.store + 300 # and logs
    }

    network {
      port "clients" {}
      port "route" {}
      port "manage" {}
    }

    service {
      name = "queue"
      port = "clients"
      tags = ["calls"]
      meta {
        version = "${var.release_sha256}"
      }
      check {
        name     = "has all that it keeps, and a quorum"
        type     = "http"
        port     = "manage"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    # The nodes look for each other here before they are ready.
    service {
      name = "queue-route"
      port = "route"
      check {
        name     = "is alive"
        type     = "http"
        port     = "manage"
        path     = "/healthz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    service {
      name = "queue-manage"
      port = "manage"
      tags = ["metrics", "backlog"]
      check {
        name     = "is alive"
        type     = "http"
        path     = "/healthz"
        interval = "5s"
        timeout  = "1s"
      }
    }

    task "queue" {
      meta {
        keys_revision = var.keys_revision
      }

      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s" # it hands over what it leads

      consul {}

      artifact {
        source = var.release_url
        options {
          checksum = "sha256:${var.release_sha256}"
        }
      }

      config {
        command = "local/lightcone"
        args    = ["queue"]
      }

      env {
        GOMEMLIMIT                    = "${floor(var.memory * 0.85)}MiB"
        LIGHTCONE_LISTEN              = "${NOMAD_IP_clients}:${NOMAD_PORT_clients}"
        LIGHTCONE_ROUTE_LISTEN        = "${NOMAD_IP_route}:${NOMAD_PORT_route}"
        LIGHTCONE_MANAGE              = "${NOMAD_IP_manage}:${NOMAD_PORT_manage}"
        LIGHTCONE_SEAT                = "${NOMAD_ALLOC_INDEX}"
        LIGHTCONE_NODES               = "3"
        LIGHTCONE_PEERS_SERVICE       = "queue-route"
        LIGHTCONE_DATA                = "${NOMAD_ALLOC_DIR}/data/queue"
        LIGHTCONE_STORE_MIB           = "${floor(var.store * 0.95)}" # of 1024 * 1024 bytes
        LIGHTCONE_QUEUE_KEEP          = "${var.keep}"
        LIGHTCONE_KEPT_SHARE          = "${var.kept_share}"
        LIGHTCONE_OPERATOR_KEY_FILE   = "${NOMAD_SECRETS_DIR}/operator.key"
        LIGHTCONE_QUEUE_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/queue.password"
        LIGHTCONE_ROUTE_PASSWORD_FILE = "${NOMAD_SECRETS_DIR}/queue-route.password"
        LIGHTCONE_QUEUE_CA_FILE       = "${NOMAD_SECRETS_DIR}/queue-ca.pem"
        LIGHTCONE_CERTIFICATE_FILE    = "${NOMAD_SECRETS_DIR}/queue.pem"
        LIGHTCONE_KEY_FILE            = "${NOMAD_SECRETS_DIR}/queue.key"
        LIGHTCONE_CALLBACK_KEY_FILE   = "${NOMAD_SECRETS_DIR}/callback.key"
        LIGHTCONE_CALLBACK_ALLOW      = "${join(",", var.callback_allow)}"
        LIGHTCONE_CALLBACK_FORBID     = "${join(",", var.callback_forbid)}"
      }

      # The keys come from the Nomad variable nomad/jobs. They are read at the start.
      # Another certificate of the same authority is an update like any other, with
      # keys_revision counted up. Another authority, or another queue_route_password,
      # cannot come one node after the other: stop the job, change it, run it again.
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
        destination = "${NOMAD_SECRETS_DIR}/queue-route.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .queue_route_password }}{{ end }}"
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
        destination = "${NOMAD_SECRETS_DIR}/queue.pem"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .queue_certificate }}{{ end }}"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/queue.key"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .queue_key }}{{ end }}"
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
