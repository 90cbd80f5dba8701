output "front_door_urls" {
  description = "Where clients call."
  value       = [for host in var.front_door_hosts : "http://${host}:${var.front_door.port}"]
}

output "operator_url" {
  description = "The load balancer's statistics and the metrics of every service, on the front door's host."
  value       = "http://${var.front_door.operator_bind}:${var.front_door.operator_port}"
}

output "management_url" {
  description = "Where `lightcone tenant`, `key` and `audit` reach the management plane (LIGHTCONE_MANAGE_URL), on the front door's host."
  value       = "http://${var.front_door.operator_bind}:${var.front_door.operator_port}"
}

output "consul_ui" {
  description = "Consul's UI."
  value       = "${var.consul_address}/ui"
}

output "nomad_ui" {
  description = "Nomad's UI."
  value       = "${var.nomad_address}/ui"
}

output "functions" {
  description = "Each function's bounds in workers, and a worker's slots and memory (MB)."
  value       = { for name, f in local.functions : name => { floor = f.floor, ceiling = f.ceiling, slots = f.slots, memory = f.memory } }
}
