variable "patience" {
  description = "How long it runs; 0 ends at once, and so never becomes healthy."
  type        = number
}

job "gateway" {
  type = "service"

  group "gateway" {
    update {
      health_check      = "task_states"
      min_healthy_time  = "500ms"
      healthy_deadline  = "3s"
      progress_deadline = "4s"
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

    task "gateway" {
      driver = "raw_exec"
      config {
        command = "/bin/sleep"
        args    = ["${var.patience}"]
      }
      resources {
        cpu    = 20
        memory = 16
      }
      kill_timeout = "1s"
    }
  }
}
