# One agent of one host: its configuration is staged in the login's own folder, and
# apply-agent.sh, on the host, starts it anew if anything differs.

terraform {
  required_version = ">= 1.11"
}

locals {
  staged = ".lightcone/${var.name}"
}

resource "terraform_data" "agent" {
  # What an operator sees of a change in a plan. The secrets are not among it.
  triggers_replace = {
    config      = var.config
    host_config = var.host_config
    unit        = var.unit
    user        = var.user
    init        = var.connection.init
    executable  = var.executable
    revision    = var.revision
  }

  connection {
    host        = var.connection.host
    host_key    = var.connection.host_key
    user        = var.connection.user
    port        = var.connection.port
    private_key = file(pathexpand(var.connection.private_key_path))
    timeout     = "1m"
  }
  provisioner "file" {
    content     = var.config
    destination = "${local.staged}/agent.hcl"
  }
  provisioner "file" {
    content     = "${var.host_config}\n"
    destination = "${local.staged}/host.hcl"
  }
  provisioner "file" {
    content     = var.unit
    destination = "${local.staged}/${var.name}.service"
  }
  provisioner "file" {
    content     = var.secrets
    destination = "${local.staged}/secrets.hcl"
  }
  provisioner "remote-exec" {
    inline = concat(
      ["set -e", "${var.connection.run}/apply-agent.sh ${var.name} ${var.connection.init} ${var.user} \"$PWD/${local.staged}\""],
      length(var.await) == 0 ? [] : ["${var.connection.run}/await-nomad.sh ${join(" ", var.await)}"],
    )
  }
}
