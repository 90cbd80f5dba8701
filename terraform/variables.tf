# What runs, and where.

variable "nomad_address" {
  description = "Address of Nomad's API."
  type        = string
  default     = "http://127.0.0.1:4646"
  nullable    = false
  validation {
    condition     = can(regex("^https?://[^/ ]+$", var.nomad_address))
    error_message = "The Nomad address must be a URL without a path, such as http://127.0.0.1:4646."
  }
}

variable "consul_address" {
  description = "Address of Consul's API and UI, for the output; the jobs find Consul through Nomad."
  type        = string
  default     = "http://127.0.0.1:8500"
  nullable    = false
  validation {
    condition     = can(regex("^https?://[^/ ]+$", var.consul_address))
    error_message = "The Consul address must be a URL without a path, such as http://127.0.0.1:8500."
  }
}

variable "datacenters" {
  description = "Nomad datacenters to run in; * is any."
  type        = list(string)
  default     = ["*"]
  nullable    = false
  validation {
    condition     = length(var.datacenters) > 0
    error_message = "The datacenters must be at least one; [\"*\"] is any."
  }
}

variable "release" {
  description = "Where hosts fetch Lightcone's .tar.gz, and its SHA-256."
  type = object({
    url    = string
    sha256 = string
  })
  nullable = false
  validation {
    condition     = can(regex("^(https?|s3|gcs)://.+[.]tar[.]gz$", var.release.url))
    error_message = "The release's url must be the http(s), s3 or gcs address of a .tar.gz that make release made."
  }
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.release.sha256))
    error_message = "The release's sha256 must be 64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "keys_revision" {
  description = "Counted up when the keys in the Nomad variable nomad/jobs have changed: the services are updated, one canary first, and read them."
  type        = number
  default     = 1
  nullable    = false
}

variable "functions" {
  description = <<-TEXT
    The functions, by name. Each: floor and ceiling in workers (by default one a rack, and the computed number of
    servers); slots, cpu (MHz), cores, memory and memory_max (MB) of a worker; cold_start, the seconds that a call waits
    for the first worker where the floor is 0; executable, a path on the workers' hosts that their chroot_env shows
    to tasks, for one that does not come with Lightcone.
  TEXT
  type = map(object({
    floor      = optional(number)
    ceiling    = optional(number)
    slots      = optional(number)
    cpu        = optional(number)
    cores      = optional(number)
    memory     = optional(number)
    memory_max = optional(number)
    cold_start = optional(number)
    executable = optional(string)
  }))
  default  = { resize = {} }
  nullable = false
  validation {
    condition     = length(var.functions) > 0 && alltrue([for name in keys(var.functions) : can(regex("^[a-z][a-z0-9-]{0,15}$", name))])
    error_message = "The functions must be at least one, with names of at most 16 lower-case letters, digits and dashes."
  }
  validation {
    condition = alltrue([for f in values(var.functions) : (
      coalesce(f.floor, 1) >= 0 && coalesce(f.ceiling, 1) >= 1 && (f.floor == null || f.ceiling == null ? true : f.floor <= f.ceiling)
    )])
    error_message = "The floor of each function must be 0 or more workers, and its ceiling at least 1 and no fewer than the floor."
  }
  validation {
    condition     = alltrue([for f in values(var.functions) : coalesce(f.floor, 1) > 0 || coalesce(f.cold_start, 0) > 0])
    error_message = "The functions with a floor of 0 must have a cold_start, in seconds: calls wait so long for the first worker."
  }
  validation {
    condition     = alltrue([for f in values(var.functions) : f.executable == null ? true : startswith(f.executable, "/")])
    error_message = "The executable of a function must be an absolute path on the workers' hosts."
  }
  validation {
    condition     = alltrue([for f in values(var.functions) : coalesce(f.slots, 1) >= 1 && coalesce(f.slots, 1) <= 1024])
    error_message = "The slots of each function must be 1 to 1024, one for each core."
  }
}

variable "gateways" {
  description = "Gateways; null takes the computed number."
  type        = number
  default     = null
  validation {
    condition     = var.gateways == null ? true : var.gateways >= 1 && var.gateways <= 1000 && floor(var.gateways) == var.gateways
    error_message = "The gateways must be a whole number from 1 to 1000, or null for the computed number."
  }
}

variable "gateway_memory_mb" {
  description = "Memory of a gateway in MB; bodies and answers in flight are bounded to about half of it."
  type        = number
  default     = 512
  nullable    = false
  validation {
    condition     = var.gateway_memory_mb >= 128
    error_message = "The memory of a gateway must be at least 128 MB."
  }
}

variable "max_wait" {
  description = "The longest wait for a free slot that a call is accepted with."
  type        = string
  default     = "200ms"
  nullable    = false
  validation {
    condition     = can(regex("^[0-9]+(ms|s)$", var.max_wait))
    error_message = "The max_wait must be a duration, such as 200ms or 1s."
  }
}

variable "front_door" {
  description = "The load balancers: how many, the addresses they bind, the operators' address (never a public one), the ports for calls and for operators, and CPU (MHz) and memory (MB) of each."
  type = object({
    count         = optional(number, 1)
    bind          = optional(list(string), ["*"])
    port          = optional(number, 8080)
    operator_bind = optional(string, "127.0.0.1")
    operator_port = optional(number, 8404)
    cpu           = optional(number, 500)
    memory        = optional(number, 512)
  })
  default  = {}
  nullable = false
  validation {
    condition     = alltrue([for port in [var.front_door.port, var.front_door.operator_port] : port >= 1024 && port <= 65535]) && var.front_door.port != var.front_door.operator_port
    error_message = "The front door's ports must be two different ones from 1024 to 65535: it runs without privileges."
  }
  validation {
    condition     = var.front_door.count >= 1 && length(var.front_door.bind) > 0
    error_message = "The front door must have at least 1 load balancer and 1 address to bind."
  }
}

variable "front_door_hosts" {
  description = "Names or addresses that clients reach the front door by, for the output."
  type        = list(string)
  default     = ["127.0.0.1"]
  nullable    = false
}

variable "schedulers" {
  description = "Schedulers: one leads, the others wait for its end."
  type        = number
  default     = 3
  nullable    = false
  validation {
    condition     = var.schedulers >= 1 && var.schedulers <= 7 && floor(var.schedulers) == var.schedulers
    error_message = "The schedulers must be a whole number from 1 to 7."
  }
}

variable "redis" {
  description = <<-TEXT
    The cache that gateways share: three Redis servers and three Sentinels on hosts of their own, their ports, and CPU (MHz) and
    memory (MB) of a server. Without it (enabled = false), gateways ask Consul, and a revoked key is refused later.
  TEXT
  type = object({
    enabled       = optional(bool, true)
    port          = optional(number, 6379)
    sentinel_port = optional(number, 26379)
    cpu           = optional(number, 200)
    memory        = optional(number, 256)
  })
  default  = {}
  nullable = false
  validation {
    condition     = alltrue([for port in [var.redis.port, var.redis.sentinel_port] : port >= 1024 && port <= 65535]) && var.redis.port != var.redis.sentinel_port
    error_message = "The ports of Redis and its Sentinels must be two different ones from 1024 to 65535."
  }
  validation {
    condition     = var.redis.memory >= 64
    error_message = "The memory of a Redis server must be at least 64 MB; half of it is for the cache."
  }
}

variable "queue" {
  description = <<-TEXT
    The queue of calls that nobody waits for: three nodes on three racks, the disk (MB) of each, how long results stay, and
    CPU (MHz) and memory (MB) of a node. Without it (enabled = false), calls cannot be queued.
  TEXT
  type = object({
    enabled    = optional(bool, true)
    store_mb   = optional(number, 10240)
    keep_hours = optional(number, 24)
    cpu        = optional(number, 500)
    memory     = optional(number, 512)
  })
  default  = {}
  nullable = false
  validation {
    condition     = !var.queue.enabled || var.racks >= 3
    error_message = "The queue must have three racks, one for each node; with fewer, queue = { enabled = false }."
  }
  validation {
    condition     = var.queue.store_mb >= 256 && var.queue.memory >= 128
    error_message = "The queue must have at least 256 MB of disk and 128 MB of memory for each node."
  }
  validation {
    condition     = var.queue.keep_hours >= 1 && var.queue.keep_hours <= 720 && floor(var.queue.keep_hours) == var.queue.keep_hours
    error_message = "The queue must keep results for a whole number of hours from 1 to 720."
  }
}

variable "usage" {
  description = <<-TEXT
    Where records of what calls used go: the URL of a bucket, such as s3://usage?region=eu-central-1. Without it, none are kept
    and nothing can be billed. Hosts must have the bucket's credentials, or the Nomad variable nomad/jobs the items
    usage_access_key_id and usage_secret_access_key. With prices, the text of a price list such as
    file("../usage/billing/prices.json"), each hour is billed, in so many shares, with so much memory (MB) for each. Records wait
    for the bucket in the host volume that is named.
  TEXT
  type = object({
    bucket = optional(string, "")
    volume = optional(string, "usage")
    prices = optional(string, "")
    shares = optional(number, 3)
    memory = optional(number, 768)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.usage.bucket == "" || can(regex("^s3://[^/?]+[?].*region=", var.usage.bucket))
    error_message = "The bucket of usage must be a URL such as s3://usage?region=eu-central-1."
  }
  validation {
    condition     = var.usage.prices == "" || can(jsondecode(var.usage.prices).versions)
    error_message = "The prices must be the text of a price list, such as file(\"../usage/billing/prices.json\")."
  }
  validation {
    condition     = var.usage.prices == "" || var.usage.bucket != ""
    error_message = "The prices are for usage that is kept: name its bucket, too."
  }
}

variable "store" {
  description = <<-TEXT
    An S3 store as a job (jobs/store.nomad.hcl), for a region that tries Lightcone out: where versitygw's archive is, its SHA-256,
    the host volume with the buckets, the one that is made, the port, and CPU (MHz) and memory (MB). usage.bucket then names it, as in
    s3://usage?region=eu-central-1&endpoint=http://HOST:7070&use_path_style=true. Production has its provider's (null).
  TEXT
  type = object({
    server_url    = string
    server_sha256 = string
    volume        = optional(string, "store")
    bucket        = optional(string, "usage")
    port          = optional(number, 7070)
    cpu           = optional(number, 200)
    memory        = optional(number, 192)
  })
  default = null
  validation {
    condition     = var.store == null ? true : can(regex("^(https?|s3|gcs)://.+[.]tar[.]gz$", var.store.server_url)) && can(regex("^[0-9a-f]{64}$", var.store.server_sha256))
    error_message = "The store's server_url must be the http(s), s3 or gcs address of a .tar.gz, and its server_sha256 must be 64 hexadecimal digits."
  }
}

variable "callbacks" {
  description = <<-TEXT
    Where callbacks may go: to the public Internet, to the networks that are allowed beside, and never to those that are
    forbidden, which are best the public addresses of the region's own machines.
  TEXT
  type = object({
    allowed   = optional(list(string), [])
    forbidden = optional(list(string), [])
  })
  default  = {}
  nullable = false
  validation {
    condition     = alltrue([for network in concat(var.callbacks.allowed, var.callbacks.forbidden) : can(cidrhost(network, 0))])
    error_message = "The networks of callbacks must each be one such as 10.1.0.0/16 or 2001:db8::/32."
  }
}

variable "identity" {
  description = "The management plane of tenants and keys: how many instances, and CPU (MHz) and memory (MB) of each."
  type = object({
    count  = optional(number, 2)
    cpu    = optional(number, 100)
    memory = optional(number, 128)
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.identity.count >= 1 && var.identity.count <= 7 && floor(var.identity.count) == var.identity.count
    error_message = "The instances of the management plane must be a whole number from 1 to 7."
  }
}

variable "bulk" {
  description = "resize-bulk: allocations that a run is split over, images that each resizes at once, and the host volume with files (empty: buckets only)."
  type = object({
    shares = optional(number, 3)
    slots  = optional(number, 1)
    volume = optional(string, "photographs")
  })
  default  = {}
  nullable = false
  validation {
    condition     = var.bulk.shares >= 1 && var.bulk.shares <= 1000 && var.bulk.slots >= 1
    error_message = "The bulk shares must be 1 to 1000, and its slots at least 1."
  }
}
