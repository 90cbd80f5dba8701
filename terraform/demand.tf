# What is asked of the region. `lightcone plan` takes the same numbers.

variable "rate" {
  description = "Calls per second that the region carries."
  type        = number
  nullable    = false
  validation {
    condition     = var.rate > 0 && var.rate <= 1e9
    error_message = "The rate must be more than 0 and at most 1e9 calls per second."
  }
}

variable "cpu_ms_per_call" {
  description = "CPU time of one call in milliseconds: `lightcone plan --measure` finds it out."
  type        = number
  nullable    = false
  validation {
    condition     = var.cpu_ms_per_call > 0 && var.cpu_ms_per_call <= 600000
    error_message = "The CPU time per call must be more than 0 and at most 600000 ms."
  }
}

variable "cores_per_server" {
  description = "Cores of a worker's server."
  type        = number
  default     = 32
  nullable    = false
  validation {
    condition     = var.cores_per_server >= 1 && var.cores_per_server <= 4096 && floor(var.cores_per_server) == var.cores_per_server
    error_message = "The cores per server must be a whole number from 1 to 4096."
  }
}

variable "headroom" {
  description = "What is kept free for bursts and failures, as a fraction of the demand."
  type        = number
  default     = 0.2
  nullable    = false
  validation {
    condition     = var.headroom >= 0 && var.headroom <= 10
    error_message = "The headroom must be a fraction of the demand from 0 to 10; 0.2 is 20 %."
  }
}

variable "racks" {
  description = "Racks, or zones: what fails apart. Hosts name theirs as meta.rack."
  type        = number
  default     = 4
  nullable    = false
  validation {
    condition     = var.racks >= 1 && var.racks <= 1000 && floor(var.racks) == var.racks
    error_message = "The number of racks must be a whole number from 1 to 1000."
  }
}

variable "body_in_kb" {
  description = "Size of a call's body in KB (1000 bytes)."
  type        = number
  default     = 265
  nullable    = false
  validation {
    condition     = var.body_in_kb >= 0 && var.body_in_kb <= 1e6
    error_message = "The body in must be 0 to 1e6 KB."
  }
}

variable "body_out_kb" {
  description = "Size of an answer's body in KB (1000 bytes)."
  type        = number
  default     = 12
  nullable    = false
  validation {
    condition     = var.body_out_kb >= 0 && var.body_out_kb <= 1e6
    error_message = "The body out must be 0 to 1e6 KB."
  }
}

variable "slot_memory_mb" {
  description = "Memory that is set aside for each process of the function, in MB."
  type        = number
  default     = 80
  nullable    = false
  validation {
    condition     = var.slot_memory_mb >= 0 && var.slot_memory_mb <= 1e6
    error_message = "The memory of a slot must be 0 to 1e6 MB."
  }
}

variable "server_memory_mb" {
  description = "Memory that a server has for slots, in MB; 0 means as much as they need."
  type        = number
  default     = 0
  nullable    = false
  validation {
    condition     = var.server_memory_mb >= 0 && var.server_memory_mb <= 1e9
    error_message = "The memory of a server must be 0 to 1e9 MB."
  }
  validation {
    condition     = var.server_memory_mb == 0 || var.server_memory_mb * (1 + 1e-9) >= 2 * var.slot_memory_mb
    error_message = "The memory of a server must have room for a slot and the spare: give servers more memory."
  }
}

variable "network_gbps" {
  description = "Link of a server or gateway in Gbit/s, each direction."
  type        = number
  default     = 10
  nullable    = false
  validation {
    condition     = var.network_gbps > 0 && var.network_gbps <= 10000
    error_message = "The network of a server must be more than 0 and at most 10000 Gbit/s."
  }
}

variable "gateway_cpu_ms_per_call" {
  description = "CPU time of one call in the gateway, in milliseconds, as `make bench` measures it."
  type        = number
  default     = 0.16
  nullable    = false
  validation {
    condition     = var.gateway_cpu_ms_per_call > 0 && var.gateway_cpu_ms_per_call <= 600000
    error_message = "The gateway's CPU time per call must be more than 0 and at most 600000 ms."
  }
}

variable "gateway_cores" {
  description = "Cores of a gateway."
  type        = number
  default     = 4
  nullable    = false
  validation {
    condition     = var.gateway_cores >= 1 && var.gateway_cores <= 4096 && floor(var.gateway_cores) == var.gateway_cores
    error_message = "The cores per gateway must be a whole number from 1 to 4096."
  }
}

variable "queue_share" {
  description = "Fraction of the calls that go through the queue."
  type        = number
  default     = 0
  nullable    = false
  validation {
    condition     = var.queue_share >= 0 && var.queue_share <= 1
    error_message = "The queue's share must be 0 to 1 of the calls."
  }
}

variable "queue_replicas" {
  description = "Nodes that store each queued call."
  type        = number
  default     = 3
  nullable    = false
  validation {
    condition     = var.queue_replicas >= 1 && var.queue_replicas <= 5 && floor(var.queue_replicas) == var.queue_replicas
    error_message = "The queue's replicas must be a whole number from 1 to 5."
  }
}

variable "prices" {
  description = "What things cost, in your currency; the defaults are examples. A price per server-month, if not 0, is used instead of the one per core-hour."
  type = object({
    core_hour    = optional(number, 0.04)
    server_month = optional(number, 0)
    gb_out       = optional(number, 0.05)
  })
  default  = {}
  nullable = false
  validation {
    condition     = alltrue([for price in values(var.prices) : price >= 0 && price <= 1e9])
    error_message = "The prices must each be 0 to 1e9."
  }
}
