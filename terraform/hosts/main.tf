locals {
  roles   = { for name, host in var.hosts : name => host.roles == null ? toset([host.role]) : host.roles }
  servers = [for name in sort(keys(var.hosts)) : name if contains(local.roles[name], "server")]
  others  = [for name in sort(keys(var.hosts)) : name if !contains(local.roles[name], "server")]
  first   = local.servers[0] # where what happens once happens

  server_addresses = [for name in local.servers : var.hosts[name].address]
  # The class of a host that runs jobs; null for one that only decides.
  node_class = { for name, roles in local.roles : name => contains(roles, "worker") ? "worker" : contains(roles, "edge") ? "edge" : null }

  connections = { for name, host in var.hosts : name => {
    host             = coalesce(host.ssh_address, host.address)
    host_key         = host.host_key
    user             = var.ssh.user
    port             = var.ssh.port
    private_key_path = var.ssh.private_key_path
    init             = var.init
    # Every command is bounded, on the host itself.
    run = "${var.ssh.user == "root" ? "" : "sudo -n "}timeout --kill-after=10 300 /usr/local/lib/lightcone"
  } }

  scripts = { for file in fileset("${path.module}/scripts", "*.sh") : file => filesha256("${path.module}/scripts/${file}") }
  packages = { for name, roles in local.roles : name => var.packages != null ? var.packages : concat(
    ["ca-certificates", "curl", "unzip"],
    contains(roles, "worker") ? ["libvips42", "redis-server"] : [],
    contains(roles, "edge") ? ["haproxy"] : [],
  ) }

  executables = {
    consul = {
      path   = var.consul_binary == null ? null : pathexpand(var.consul_binary)
      url    = var.consul_url
      sha256 = var.consul_binary == null ? var.consul_sha256 : filesha256(pathexpand(var.consul_binary))
    }
    nomad = {
      path   = var.nomad_binary == null ? null : pathexpand(var.nomad_binary)
      url    = var.nomad_url
      sha256 = var.nomad_binary == null ? var.nomad_sha256 : filesha256(pathexpand(var.nomad_binary))
    }
  }
  host_executables = { for pair in setproduct(keys(var.hosts), keys(local.executables)) : "${pair[0]}/${pair[1]}" => {
    host  = pair[0]
    agent = pair[1]
  } }
}

# A machine's membership: nothing to do when it begins; when it ends, the agents
# stop. Its own connection is in the state, for then the variables may be gone.
resource "terraform_data" "membership" {
  for_each         = var.hosts
  input            = local.connections[each.key]
  triggers_replace = [local.connections[each.key].host]

  provisioner "remote-exec" {
    when = destroy
    # Without the script, no agent was ever started.
    inline = ["[ ! -e /usr/local/lib/lightcone/remove.sh ] || ${self.input.run}/remove.sh ${self.input.init}"]
    connection {
      host        = self.input.host
      host_key    = self.input.host_key
      user        = self.input.user
      port        = self.input.port
      private_key = file(pathexpand(self.input.private_key_path))
      timeout     = "1m"
    }
  }
}

# Scripts, packages, users, folders.
resource "terraform_data" "prepared" {
  for_each = var.hosts
  triggers_replace = {
    machine  = terraform_data.membership[each.key].id
    scripts  = local.scripts
    packages = local.packages[each.key]
    init     = var.init
  }

  connection {
    host        = local.connections[each.key].host
    host_key    = local.connections[each.key].host_key
    user        = local.connections[each.key].user
    port        = local.connections[each.key].port
    private_key = file(pathexpand(local.connections[each.key].private_key_path))
    timeout     = "1m"
  }
  provisioner "remote-exec" {
    inline = ["rm -rf .lightcone && mkdir -m 700 .lightcone .lightcone/consul .lightcone/nomad"]
  }
  provisioner "file" {
    source      = "${path.module}/scripts"
    destination = ".lightcone"
  }
  provisioner "remote-exec" {
    inline = [
      "set -e",
      "sudo=${var.ssh.user == "root" ? "" : "'sudo -n'"}",
      "$sudo install -d -m 755 /usr/local/lib/lightcone",
      "$sudo install -m 755 .lightcone/scripts/*.sh /usr/local/lib/lightcone/",
      "${local.connections[each.key].run}/prepare.sh ${join(" ", concat([var.init], local.packages[each.key]))}",
    ]
  }
}

resource "terraform_data" "uploaded" {
  for_each = { for key, it in local.host_executables : key => it if local.executables[it.agent].path != null }
  triggers_replace = {
    machine = terraform_data.membership[each.value.host].id
    sha256  = local.executables[each.value.agent].sha256
  }
  depends_on = [terraform_data.prepared]

  connection {
    host        = local.connections[each.value.host].host
    host_key    = local.connections[each.value.host].host_key
    user        = local.connections[each.value.host].user
    port        = local.connections[each.value.host].port
    private_key = file(pathexpand(local.connections[each.value.host].private_key_path))
    timeout     = "1m"
  }
  provisioner "file" {
    source      = local.executables[each.value.agent].path
    destination = ".lightcone/${each.value.agent}/executable"
  }
  provisioner "remote-exec" {
    inline = ["${local.connections[each.value.host].run}/install-executable.sh ${each.value.agent} ${local.executables[each.value.agent].sha256} \"$PWD/.lightcone/${each.value.agent}/executable\""]
  }
}

resource "terraform_data" "downloaded" {
  for_each = { for key, it in local.host_executables : key => it if local.executables[it.agent].path == null }
  triggers_replace = {
    machine = terraform_data.membership[each.value.host].id
    url     = local.executables[each.value.agent].url
    sha256  = local.executables[each.value.agent].sha256
  }
  depends_on = [terraform_data.prepared]

  connection {
    host        = local.connections[each.value.host].host
    host_key    = local.connections[each.value.host].host_key
    user        = local.connections[each.value.host].user
    port        = local.connections[each.value.host].port
    private_key = file(pathexpand(local.connections[each.value.host].private_key_path))
    timeout     = "1m"
  }
  provisioner "remote-exec" {
    inline = ["${local.connections[each.value.host].run}/install-executable.sh ${each.value.agent} ${local.executables[each.value.agent].sha256} '${local.executables[each.value.agent].url}'"]
  }
}
