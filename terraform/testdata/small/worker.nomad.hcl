variable "function" {
  type = string
}

variable "greeting" {
  type = string
}

variable "racks" {
  type = list(string)
}

variable "floor" {
  type = number
}

job "worker" {
  id   = "worker-${var.function}"
  type = "service"

  group "worker" {
    scaling {
      min = var.floor
      max = 5
    }

    update {
      health_check     = "task_states"
      min_healthy_time = "0s"
      healthy_deadline = "10s"
      auto_revert      = true
    }

    task "worker" {
      driver = "raw_exec"
      config {
        command = "/bin/sleep"
        args    = ["600"]
      }
      env {
        GREETING = "${var.greeting}"
        RACKS    = join(" ", var.racks)
      }
      resources {
        cpu    = 20
        memory = 16
      }
      kill_timeout = "1s"
    }
  }
}
