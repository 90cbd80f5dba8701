variable "hosts" {
  description = <<-EOT
    The machines, by the name that each will have in Consul and Nomad. They run Debian 12 and are reached by SSH.
      address:      where the other hosts reach it, IPv4; Consul and Nomad listen there
      ssh_address:  where you reach it, if that is another address or a name
      host_key:     its public SSH host key ("ssh-ed25519 AAAA…"); without it, whoever answers is believed
      rack:         what fails together: jobs are spread over racks
      role:         server (decides), worker (runs functions) or edge (faces the clients)
      roles:        instead of role, for a host with several of them
      nomad_config: lines of Nomad's own configuration for this host alone
  EOT
  type = map(object({
    address      = string
    ssh_address  = optional(string)
    host_key     = optional(string)
    rack         = string
    role         = optional(string)
    roles        = optional(set(string))
    nomad_config = optional(string, "")
  }))
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.hosts) : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "A host's name is 1 to 63 of a-z, 0-9 and inner hyphens, as in DNS; rename ${join(", ", [for name in keys(var.hosts) : name if !can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))])}."
  }
  validation {
    condition     = alltrue([for host in values(var.hosts) : can(cidrhost("${host.address}/32", 0))])
    error_message = "A host's address is an IPv4 address; correct that of ${join(", ", [for name, host in var.hosts : name if !can(cidrhost("${host.address}/32", 0))])}."
  }
  validation {
    condition     = length(distinct([for host in values(var.hosts) : host.address])) == length(var.hosts)
    error_message = "Two hosts have the same address: each machine is listed once, with all its roles."
  }
  validation {
    condition     = length(distinct([for host in values(var.hosts) : coalesce(host.ssh_address, host.address)])) == length(var.hosts)
    error_message = "Two hosts have the same ssh_address: each machine is listed once, with all its roles."
  }
  validation {
    condition     = alltrue([for host in values(var.hosts) : trimspace(host.rack) != ""])
    error_message = "A host's rack is not empty: give each host the name of what fails together with it, such as its rack or room."
  }
  validation {
    condition     = alltrue([for host in values(var.hosts) : (host.role == null) != (try(length(host.roles), 0) == 0)])
    error_message = "A host has either a role or a set of roles, and not both; correct ${join(", ", [for name, host in var.hosts : name if(host.role == null) == (try(length(host.roles), 0) == 0)])}."
  }
  validation {
    condition = alltrue(flatten([for host in values(var.hosts) : [
      for role in(host.roles == null ? [host.role] : tolist(host.roles)) : role == null || contains(["server", "worker", "edge"], coalesce(role, "none"))
    ]]))
    error_message = "An unknown role is among those of the hosts: a role is server, worker or edge."
  }
  validation {
    condition     = alltrue([for host in values(var.hosts) : host.roles == null ? true : !(contains(host.roles, "worker") && contains(host.roles, "edge"))])
    error_message = "A host is a worker or an edge and not both, because Nomad gives a host one class, by which jobs choose; either may be a server too."
  }
  validation {
    condition = contains([1, 3, 5], length([
      for host in values(var.hosts) : host if contains(host.roles == null ? [host.role] : tolist(host.roles), "server")
    ]))
    error_message = "The number of hosts with the role server is 1, 3 or 5: more than half of them must agree, so an even number bears no more failures than one less."
  }
}

variable "ssh" {
  description = "How to log in to every host: the user (root, or one with sudo and no password), the private key's file, and the port. A key with a passphrase does not work here: Terraform cannot ask for it."
  type = object({
    user             = optional(string, "root")
    private_key_path = string
    port             = optional(number, 22)
  })
  nullable = false

  validation {
    condition     = fileexists(pathexpand(var.ssh.private_key_path))
    error_message = "There is no private key at ${var.ssh.private_key_path}: set ssh.private_key_path to the file of the key that the hosts know."
  }
  validation {
    condition     = var.ssh.port >= 1 && var.ssh.port <= 65535 && floor(var.ssh.port) == var.ssh.port
    error_message = "The SSH port is a whole number from 1 to 65535."
  }
}

variable "datacenter" {
  description = "The name of Consul's and Nomad's datacenter."
  type        = string
  default     = "dc1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_-]*$", var.datacenter))
    error_message = "A datacenter's name is of a-z, 0-9, hyphens and underscores."
  }
}

variable "gossip_key" {
  description = "The key that encrypts the agents' gossip: 32 bytes in base64, from `consul keygen`. Agents take it when they first start; later, `consul keyring` changes it."
  type        = string
  sensitive   = true
  ephemeral   = true # never in the state

  validation {
    condition     = can(regex("^[A-Za-z0-9+/]{43}=$", var.gossip_key))
    error_message = "The gossip key is 32 bytes in base64, 44 characters: make one with `consul keygen`."
  }
}

variable "token_secret" {
  description = "The secret that the agents' Consul tokens are derived from, at least 32 characters, from `openssl rand -base64 32`. It stays with you; each host gets its own tokens only."
  type        = string
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = length(coalesce(var.token_secret, "-")) >= 32
    error_message = "The token secret has at least 32 characters: make one with `openssl rand -base64 32`."
  }
}

variable "secrets_revision" {
  description = "Count it up with a new gossip_key or token_secret: the state does not hold them, so a plan cannot see that they changed."
  type        = number
  default     = 1
  nullable    = false
}

variable "consul_binary" {
  description = "A Consul executable for the hosts (Linux) on this machine, to upload. Give either this or consul_url."
  type        = string
  default     = null

  validation {
    condition     = (var.consul_binary == null) != (var.consul_url == null)
    error_message = "Give either consul_binary, a file to upload, or consul_url with consul_sha256, for the hosts to download."
  }
  validation {
    condition     = var.consul_binary == null || fileexists(pathexpand(coalesce(var.consul_binary, "-")))
    error_message = "There is no file at consul_binary."
  }
}

variable "consul_url" {
  description = "Where the hosts download Consul: an executable, or a .zip with one, as releases.hashicorp.com has them."
  type        = string
  default     = null
}

variable "consul_sha256" {
  description = "The SHA-256 of what is at consul_url, in hexadecimal."
  type        = string
  default     = null

  validation {
    condition     = var.consul_url == null || can(regex("^[0-9a-f]{64}$", var.consul_sha256))
    error_message = "With consul_url goes consul_sha256, 64 hexadecimal digits: what was downloaded runs as an agent, so it is checked."
  }
}

variable "nomad_binary" {
  description = "A Nomad executable for the hosts (Linux) on this machine, to upload. Give either this or nomad_url."
  type        = string
  default     = null

  validation {
    condition     = (var.nomad_binary == null) != (var.nomad_url == null)
    error_message = "Give either nomad_binary, a file to upload, or nomad_url with nomad_sha256, for the hosts to download."
  }
  validation {
    condition     = var.nomad_binary == null || fileexists(pathexpand(coalesce(var.nomad_binary, "-")))
    error_message = "There is no file at nomad_binary."
  }
}

variable "nomad_url" {
  description = "Where the hosts download Nomad: an executable, or a .zip with one."
  type        = string
  default     = null
}

variable "nomad_sha256" {
  description = "The SHA-256 of what is at nomad_url, in hexadecimal."
  type        = string
  default     = null

  validation {
    condition     = var.nomad_url == null || can(regex("^[0-9a-f]{64}$", var.nomad_sha256))
    error_message = "With nomad_url goes nomad_sha256, 64 hexadecimal digits: what was downloaded runs as root, so it is checked."
  }
}

variable "packages" {
  description = "Debian packages for every host. By default, what each role needs: libvips42 and redis-server on workers, haproxy on edges. [] leaves apt alone."
  type        = list(string)
  default     = null

  validation {
    condition     = alltrue([for package in coalesce(var.packages, ["none"]) : can(regex("^[a-z0-9][a-z0-9.+-]+$", package))])
    error_message = "Packages are named as in Debian: a-z, 0-9, and . + - inside."
  }
}

variable "init" {
  description = "What runs the agents: systemd, or none, which starts them in sessions of their own with a pidfile and nobody to restart them, for containers and test hosts."
  type        = string
  default     = "systemd"
  nullable    = false

  validation {
    condition     = contains(["systemd", "none"], var.init)
    error_message = "init is systemd or none."
  }
}
