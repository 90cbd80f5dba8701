# A service with deployments, which Nomad alone finds healthy: no Consul.

variable "name" {
  type = string
}

variable "count" {
  type    = number
  default = 1

  validation {
    condition     = var.count >= 1 && var.count <= 9
    error_message = "The count must be between 1 and 9."
  }
}

variable "script" {
  type    = string
  default = "exec sleep 1000"
}

variable "note" {
  type    = string
  default = ""
}

variable "canaries" {
  type    = number
  default = 0
}

variable "settle" {
  type    = string
  default = "100ms"
}

variable "artifact" {
  type    = string
  default = ""
}

variable "racks" {
  type    = list(string)
  default = ["r1"]
}

variable "quick" {
  type    = bool
  default = true
}

job "service" {
  id = var.name

  group "g" {
    count = var.count

    constraint {
      attribute = "${meta.rack}"
      operator  = "set_contains_any"
      value     = join(",", var.racks)
    }

    update {
      health_check      = "task_states"
      min_healthy_time  = var.settle
      healthy_deadline  = "30s"
      progress_deadline = "0s" # the first unhealthy allocation ends the deployment
      max_parallel      = 3
      canary            = var.canaries
      auto_promote      = var.canaries > 0
      auto_revert       = true
    }

    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    network {
      port "http" {}
    }

    service {
      name     = var.name
      port     = "http"
      provider = "nomad"
      tags     = ["front"]

      check {
        name     = "ready"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "t" {
      driver       = "raw_exec"
      kill_timeout = "1s"

      config {
        command = "/bin/sh"
        args    = ["-c", var.script]
      }

      env {
        NOTE  = var.note
        QUICK = var.quick
      }

      identity {
        env = true
      }

      dynamic "artifact" {
        for_each = var.artifact == "" ? [] : [var.artifact]

        content {
          source = artifact.value
        }
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
