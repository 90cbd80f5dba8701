# A job without deployments: batch, system, or a service that wants none.

variable "name" {
  type = string
}

variable "type" {
  type = string
}

variable "script" {
  type    = string
  default = "exec sleep 1000"
}

job "run" {
  id   = var.name
  type = var.type

  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }

    dynamic "reschedule" {
      for_each = contains(["system", "sysbatch"], var.type) ? [] : [0]

      content {
        attempts  = 0
        unlimited = false
      }
    }

    task "t" {
      driver       = "raw_exec"
      kill_timeout = "1s"

      config {
        command = "/bin/sh"
        args    = ["-c", var.script]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
