output "consul_address" {
  description = "Consul's HTTP API and UI, on the first server."
  value       = "http://${var.hosts[local.first].address}:8500"
}

output "nomad_address" {
  description = "Nomad's HTTP API and UI, on the first server; known only when the whole cluster is ready."
  value       = "http://${var.hosts[local.first].address}:4646"
  depends_on  = [module.nomad_client, terraform_data.logins]
}

output "servers" {
  description = "The servers' addresses, by host."
  value       = { for name in local.servers : name => var.hosts[name].address }
}

output "consul_token_command" {
  description = "Prints Consul's bootstrap token, which may do everything. It is in a file on the first server that only root reads, and nowhere else."
  value = join(" ", [
    "ssh -i ${var.ssh.private_key_path} -p ${var.ssh.port} ${var.ssh.user}@${local.connections[local.first].host}",
    "${var.ssh.user == "root" ? "" : "sudo "}cat /etc/lightcone/consul-bootstrap.token",
  ])
}
