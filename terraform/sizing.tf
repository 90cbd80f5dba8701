# The arithmetic of package capacity, which explains it; a test compares the two.

locals {
  tolerance = 1e-9 # no server for a rounding error
  slots_per_worker = min(var.cores_per_server,
    var.server_memory_mb == 0 || var.slot_memory_mb == 0 ? var.cores_per_server :
    floor(var.server_memory_mb / var.slot_memory_mb * (1 + local.tolerance)) - 1
  )
  cores       = var.rate * var.cpu_ms_per_call / 1000
  network_in  = var.rate * var.body_in_kb * 8e-6
  network_out = var.rate * var.body_out_kb * 8e-6

  exact = { # before rounding up
    cpu              = local.cores / var.cores_per_server * (1 + var.headroom)
    slots            = local.cores / local.slots_per_worker * (1 + var.headroom)
    network          = max(local.network_in, local.network_out) / var.network_gbps * (1 + var.headroom)
    gateways_cpu     = var.rate * var.gateway_cpu_ms_per_call / 1000 / var.gateway_cores * (1 + var.headroom)
    gateways_network = (local.network_in + local.network_out) / var.network_gbps * (1 + var.headroom)
  }
  needed          = { for what, machines in local.exact : what => ceil(machines - machines * local.tolerance) }
  needed_servers  = max(local.needed.cpu, local.needed.slots, local.needed.network)
  needed_gateways = max(local.needed.gateways_cpu, local.needed.gateways_network)

  servers  = ceil(local.needed_servers / var.racks) * var.racks
  gateways = ceil(local.needed_gateways / var.racks) * var.racks

  binding = (
    local.needed_servers < var.racks ? "minimum" :
    local.servers > local.needed_servers ? "racks" :
    local.needed.network > local.needed.slots ? "network" :
    local.needed.slots > local.needed.cpu ? "memory" : "cpu"
  )

  month_calls  = var.rate * 730 * 3600
  core_month   = var.prices.server_month > 0 ? var.prices.server_month / var.cores_per_server : var.prices.core_hour * 730
  machines     = local.core_month * (local.servers * var.cores_per_server + local.gateways * var.gateway_cores)
  month        = local.machines + local.month_calls * var.body_out_kb / 1e6 * var.prices.gb_out
  kept         = (var.racks - 1) / var.racks # of servers and gateways, when a rack is lost
  most_network = max(local.network_in, local.network_out)
  rack_lost = var.racks == 1 ? 0 : local.kept * min(
    local.servers * local.slots_per_worker / local.cores,
    local.gateways * var.gateway_cores / (var.rate * var.gateway_cpu_ms_per_call / 1000),
    local.most_network == 0 ? 1e300 : local.servers * var.network_gbps / local.most_network,
    local.most_network == 0 ? 1e300 : local.gateways * var.network_gbps / (local.network_in + local.network_out),
  )
}

output "sizing" {
  description = "How big the region must be for its demand, as `lightcone plan --json` says it."
  value = merge(
    { for name, figure in {
      cores                     = local.cores
      servers                   = local.servers
      workers                   = local.servers
      slots_per_worker          = local.slots_per_worker
      slots                     = local.servers * local.slots_per_worker
      processes                 = local.servers * (local.slots_per_worker + 1)
      memory_per_server_mb      = (local.slots_per_worker + 1) * var.slot_memory_mb
      gateways                  = local.gateways
      network_in_gbps           = local.network_in
      network_out_gbps          = local.network_out
      gateway_in_gbps           = local.network_in / local.gateways
      gateway_out_gbps          = local.network_out / local.gateways
      queue_mb_per_second       = var.rate * var.queue_share * (var.body_in_kb + var.body_out_kb) * var.queue_replicas / 1000
      monthly_price             = local.month
      price_per_million_calls   = local.month / local.month_calls * 1e6
      capacity_with_a_rack_lost = local.rack_lost
    } : name => tonumber(format("%.15g", figure)) }, # Terraform would print 150 digits
    {
      survives_losing_a_rack = local.rack_lost >= 1 - local.tolerance
      binding                = local.binding
    },
  )
}
