# The arithmetic once for each demand of a file.

locals {
  # Absent arguments are null, and null is the default.
  demands = jsondecode(file("${path.module}/demands.json"))
}

module "sizing" {
  source   = "./sizing"
  for_each = local.demands

  rate                    = each.value.rate
  cpu_ms_per_call         = each.value.cpu_ms_per_call
  cores_per_server        = try(each.value.cores_per_server, null)
  headroom                = try(each.value.headroom, null)
  racks                   = try(each.value.racks, null)
  body_in_kb              = try(each.value.body_in_kb, null)
  body_out_kb             = try(each.value.body_out_kb, null)
  slot_memory_mb          = try(each.value.slot_memory_mb, null)
  server_memory_mb        = try(each.value.server_memory_mb, null)
  network_gbps            = try(each.value.network_gbps, null)
  gateway_cpu_ms_per_call = try(each.value.gateway_cpu_ms_per_call, null)
  gateway_cores           = try(each.value.gateway_cores, null)
  queue_share             = try(each.value.queue_share, null)
  queue_replicas          = try(each.value.queue_replicas, null)
  prices                  = try(each.value.prices, null)
}

output "sizings" {
  value = { for name, module in module.sizing : name => module.sizing }
}
