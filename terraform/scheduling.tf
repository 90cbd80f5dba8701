# How the scheduler follows the load; `lightcone scheduler --help` says what each means.

variable "scheduling" {
  description = "Windows and pauses of the scheduler and the age that queued calls may reach (0s: it does not count), as Go durations, and its headroom; what is left out has the scheduler's own default."
  type = object({
    headroom       = optional(number)
    stable_window  = optional(string)
    panic_window   = optional(string)
    up_cool_down   = optional(string)
    down_cool_down = optional(string)
    zero_after     = optional(string)
    backlog_age    = optional(string)
  })
  default  = {}
  nullable = false
  validation {
    condition = alltrue([
      for name, value in var.scheduling : value == null || name == "headroom" ? true : can(regex("^([0-9]+(h|m|s|ms))+$", value))
    ])
    error_message = "The scheduling windows and pauses must be durations, such as 30s or 1m30s."
  }
}

locals {
  scheduling = { for name, value in var.scheduling : name => value if value != null }
  policies = [for name, f in local.functions : merge(local.scheduling, {
    function = name, floor = f.floor, ceiling = f.ceiling, slots_per_worker = f.slots
  })]
}
