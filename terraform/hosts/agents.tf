# The order in which a cluster comes to be: Consul's servers, its access control,
# Consul elsewhere, Nomad's servers, Nomad's clients. Each step finds what it needs
# already there, so that none has to be patient for long.

locals {
  consul_configs = { for name, host in var.hosts : name => templatefile("${path.module}/templates/consul.hcl.tftpl", {
    name       = name
    datacenter = var.datacenter
    address    = host.address
    server     = contains(local.roles[name], "server")
    servers    = local.server_addresses
  }) }
  nomad_configs = { for name, host in var.hosts : name => templatefile("${path.module}/templates/nomad.hcl.tftpl", {
    name       = name
    datacenter = var.datacenter
    address    = host.address
    rack       = host.rack
    server     = contains(local.roles[name], "server")
    client     = local.node_class[name] != null
    node_class = local.node_class[name] == null ? "" : local.node_class[name]
    servers    = local.server_addresses
  }) }
  # Nomad's exec driver needs root; a host that only decides does not.
  nomad_users = { for name, class in local.node_class : name => class == null ? "nomad" : "root" }

  consul_secrets = { for name in keys(var.hosts) : name => templatefile("${path.module}/templates/consul-secrets.hcl.tftpl", {
    gossip_key  = var.gossip_key
    agent_token = local.tokens["consul-${name}"]
    dns_token   = local.tokens["dns-${name}"]
  }) }
  nomad_secrets = { for name in keys(var.hosts) : name => templatefile("${path.module}/templates/nomad-secrets.hcl.tftpl", {
    gossip_key   = var.gossip_key
    consul_token = local.tokens["nomad-${name}"]
    server       = contains(local.roles[name], "server")
  }) }

  revisions = { for name in keys(var.hosts) : name => {
    machine = terraform_data.membership[name].id
    secrets = var.secrets_revision
  } }
}

module "consul_server" {
  source   = "./agent"
  for_each = toset(local.servers)

  name       = "consul"
  user       = "consul"
  connection = local.connections[each.key]
  config     = local.consul_configs[each.key]
  secrets    = local.consul_secrets[each.key]
  unit       = templatefile("${path.module}/templates/consul.service.tftpl", {})
  executable = local.executables.consul.sha256
  revision   = local.revisions[each.key]

  depends_on = [terraform_data.uploaded, terraform_data.downloaded]
}

module "consul_client" {
  source   = "./agent"
  for_each = toset(local.others)

  name       = "consul"
  user       = "consul"
  connection = local.connections[each.key]
  config     = local.consul_configs[each.key]
  secrets    = local.consul_secrets[each.key]
  unit       = templatefile("${path.module}/templates/consul.service.tftpl", {})
  executable = local.executables.consul.sha256
  revision   = local.revisions[each.key]

  # Its tokens must be there first: Consul remembers for a while what was not.
  depends_on = [terraform_data.access]
}

module "nomad_server" {
  source   = "./agent"
  for_each = toset(local.servers)

  name        = "nomad"
  user        = local.nomad_users[each.key]
  connection  = local.connections[each.key]
  config      = local.nomad_configs[each.key]
  host_config = var.hosts[each.key].nomad_config
  secrets     = local.nomad_secrets[each.key]
  unit        = templatefile("${path.module}/templates/nomad.service.tftpl", { user = local.nomad_users[each.key] })
  executable  = local.executables.nomad.sha256
  revision    = local.revisions[each.key]

  depends_on = [terraform_data.access]
}

module "nomad_client" {
  source   = "./agent"
  for_each = toset(local.others)

  name        = "nomad"
  user        = local.nomad_users[each.key]
  connection  = local.connections[each.key]
  config      = local.nomad_configs[each.key]
  host_config = var.hosts[each.key].nomad_config
  secrets     = local.nomad_secrets[each.key]
  unit        = templatefile("${path.module}/templates/nomad.service.tftpl", { user = local.nomad_users[each.key] })
  executable  = local.executables.nomad.sha256
  revision    = local.revisions[each.key]
  await       = ["client", each.key]

  depends_on = [module.consul_client, module.nomad_server]
}

# Servers become ready together, so each is asked when all have been started.
resource "terraform_data" "server_ready" {
  for_each         = toset(local.servers)
  triggers_replace = module.nomad_server[each.key].id
  depends_on       = [module.nomad_server]

  connection {
    host        = local.connections[each.key].host
    host_key    = local.connections[each.key].host_key
    user        = local.connections[each.key].user
    port        = local.connections[each.key].port
    private_key = file(pathexpand(local.connections[each.key].private_key_path))
    timeout     = "1m"
  }
  provisioner "remote-exec" {
    inline = concat(
      ["set -e", "${local.connections[each.key].run}/await-nomad.sh server ${each.key}"],
      local.node_class[each.key] == null ? [] : ["${local.connections[each.key].run}/await-nomad.sh client ${each.key}"],
    )
  }
}
