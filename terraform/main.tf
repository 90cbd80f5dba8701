# The jobs. Their specifications are in jobs/, and what each variable means is said
# there; this is the one place that fills them in.

locals {
  specifications = "${path.module}/../jobs"

  everywhere = { datacenters = jsonencode(var.datacenters) }
  released = merge(local.everywhere, {
    release_url    = var.release.url
    release_sha256 = var.release.sha256
  })
  keyed = merge(local.released, { keys_revision = var.keys_revision })

  redis_service = var.redis.enabled ? "redis-sentinel" : ""
  queue_client = {
    queue_service = var.queue.enabled ? "queue" : ""
    queue_keep    = "${var.queue.keep_hours}h"
  }
  ledger = { usage_bucket = var.usage.bucket, usage_volume = var.usage.volume }
  callbacks = {
    callback_allow  = jsonencode(var.callbacks.allowed)
    callback_forbid = jsonencode(var.callbacks.forbidden)
  }

  # Defaults that depend on the demand. Floors and ceilings also go to the scheduler.
  functions = { for name, f in var.functions : name => {
    executable = f.executable
    cold_start = f.cold_start
    floor      = f.floor != null ? f.floor : min(var.racks, coalesce(f.ceiling, local.servers))
    ceiling    = f.ceiling != null ? f.ceiling : max(local.servers, coalesce(f.floor, 0))
    slots      = coalesce(f.slots, local.slots_per_worker)
    cpu        = f.cpu
    cores      = f.cores
    memory     = coalesce(f.memory, ceil(64 + var.slot_memory_mb * (1 + coalesce(f.slots, local.slots_per_worker))))
    memory_max = f.memory_max
  } }
}

# A worker's count is the scheduler's: it starts at the floor, and an apply keeps
# what it finds. rerun_if_dead is not for one that may be scaled to zero: Nomad
# calls a job without allocations dead.
resource "nomad_job" "worker" {
  for_each = local.functions

  jobspec          = file("${local.specifications}/worker.nomad.hcl")
  detach           = false
  preserve_counts  = true
  purge_on_destroy = true
  rerun_if_dead    = each.value.floor > 0

  hcl2 {
    vars = merge(local.keyed, local.queue_client, local.ledger,
      {
        function = each.value.executable == null ? each.key : "${each.key}=${each.value.executable}"
        floor    = each.value.floor
        ceiling  = each.value.ceiling
        slots    = each.value.slots
        memory   = each.value.memory

        redis_service = local.redis_service
      },
      { for name in ["cpu", "cores", "memory_max"] : name => each.value[name] if each.value[name] != null },
    )
  }
}

# A gateway is ready when it knows workers, and the front door when it knows a
# gateway: so they come one after the other.
resource "nomad_job" "gateway" {
  depends_on = [nomad_job.worker]

  jobspec          = file("${local.specifications}/gateway.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.keyed, local.queue_client, local.ledger, local.callbacks, {
      count     = coalesce(var.gateways, local.gateways)
      functions = join(",", [for name, f in local.functions : f.floor > 0 ? name : "${name}:cold=${f.cold_start}s"])
      max_wait  = var.max_wait
      memory    = var.gateway_memory_mb

      redis_service = local.redis_service
    })
  }
}

# The cache that gateways share, and the management plane. Gateways and these do not
# wait for each other: each goes on without the others.
resource "nomad_job" "redis" {
  count = var.redis.enabled ? 1 : 0

  jobspec          = file("${local.specifications}/redis.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.everywhere, {
      keys_revision = var.keys_revision
      port          = var.redis.port
      sentinel_port = var.redis.sentinel_port
      cpu           = var.redis.cpu
      memory        = var.redis.memory
    })
  }
}

# Gateways and workers do not wait for it: calls that somebody waits for do not need it.
resource "nomad_job" "queue" {
  count = var.queue.enabled ? 1 : 0

  jobspec          = file("${local.specifications}/queue.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.keyed, local.callbacks, {
      store  = var.queue.store_mb
      keep   = local.queue_client.queue_keep
      cpu    = var.queue.cpu
      memory = var.queue.memory
    })
  }
}

resource "nomad_job" "identity" {
  jobspec          = file("${local.specifications}/identity.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.keyed, {
      count         = var.identity.count
      cpu           = var.identity.cpu
      memory        = var.identity.memory
      redis_service = local.redis_service
    })
  }
}

resource "nomad_job" "front_door" {
  depends_on = [nomad_job.gateway]

  jobspec          = file("${local.specifications}/front-door.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.everywhere, {
      count         = var.front_door.count
      bind          = jsonencode(var.front_door.bind)
      port          = var.front_door.port
      operator_bind = var.front_door.operator_bind
      operator_port = var.front_door.operator_port
      cpu           = var.front_door.cpu
      memory        = var.front_door.memory
      functions     = join(",", keys(local.functions))
      most_gateways = max(32, 2 * coalesce(var.gateways, local.gateways)) # canaries too
    })
  }
}

resource "nomad_job" "scheduler" {
  jobspec          = file("${local.specifications}/scheduler.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.keyed, {
      count    = var.schedulers
      policies = jsonencode(local.policies)
    })
  }
}

# Nobody waits for it: what is not stored yet waits on the disks of gateways and workers.
resource "nomad_job" "store" {
  count = var.store != null ? 1 : 0

  jobspec          = file("${local.specifications}/store.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.everywhere, var.store)
  }
}

# A job that bills each hour, and one that bills the hour it is asked to: an apply changes
# what the next run is, and waits for none.
resource "nomad_job" "billing" {
  for_each = var.usage.bucket != "" && var.usage.prices != "" ? toset(["hourly", "asked"]) : toset([])

  jobspec          = file("${local.specifications}/billing.nomad.hcl")
  detach           = true
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.released, {
      when         = each.key
      usage_bucket = var.usage.bucket

      prices = var.usage.prices
      shares = var.usage.shares
      memory = var.usage.memory
    })
  }
}

resource "nomad_job" "resize_bulk" {
  jobspec          = file("${local.specifications}/resize-bulk.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = merge(local.released, var.bulk)
  }
}
