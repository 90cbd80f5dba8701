# Consul's access control: who may do what. The secrets are derived, not stored: a
# token is a UUID version 5 (RFC 9562), that is, a SHA-1 of the secret and a name.

locals {
  token_names = flatten([for name in sort(keys(var.hosts)) : ["consul-${name}", "dns-${name}", "nomad-${name}"]])
  tokens      = { for name in local.token_names : name => uuidv5("url", "urn:lightcone:token:${var.token_secret}:${name}") }
  # The accessor names a token in Consul's lists, and is no secret.
  accessors = { for name in local.token_names : name => uuidv5("url", "urn:lightcone:accessor:${name}") }

  policies = { for file in fileset("${path.module}/../../consul/policies", "*.hcl") :
    "lightcone-${trimsuffix(file, ".hcl")}" => file("${path.module}/../../consul/policies/${file}")
  }
  token_grants = merge([for name in sort(keys(var.hosts)) : {
    "consul-${name}" = { NodeIdentities = [{ NodeName = name, Datacenter = var.datacenter }] }
    "dns-${name}"    = { TemplatedPolicies = [{ TemplateName = "builtin/dns" }] }
    "nomad-${name}" = { Policies = [for policy in concat(
      contains(local.roles[name], "server") ? ["lightcone-nomad-server"] : [],
      local.node_class[name] == null ? [] : ["lightcone-nomad-client"],
    ) : { Name = policy }] }
  }]...)

  # A task of one of these jobs gets the role of the same name; a function's workers
  # are a job worker-FUNCTION.
  job_roles = ["gateway", "identity", "queue", "redis", "scheduler", "worker"]
  job_selectors = { for job in local.job_roles : job =>
    job == "worker" ? "value.nomad_job_id matches \"^worker-\"" : "value.nomad_job_id == \"${job}\""
  }

  # Objects of Consul's HTTP API (/v1/acl/KIND), in the order of their references.
  access = concat(
    [for name, rules in local.policies : ["policy", name, { Name = name, Rules = rules }]],
    [for job in local.job_roles : ["role", "lightcone-${job}", {
      Name = "lightcone-${job}", Policies = [{ Name = "lightcone-${job}" }]
    }]],
  )
  # How Nomad's workloads log in, by the identities that Nomad signs.
  logins = concat(
    [["auth-method", "nomad-workloads", {
      Name = "nomad-workloads", Type = "jwt", Description = "Nomad's workloads"
      Config = {
        # Every Consul server has a Nomad server beside it.
        JWKSURL          = "http://127.0.0.1:4646/.well-known/jwks.json"
        JWTSupportedAlgs = ["RS256"]
        BoundAudiences   = ["consul.io"]
        ClaimMappings = {
          nomad_namespace = "nomad_namespace"
          nomad_job_id    = "nomad_job_id"
          nomad_task      = "nomad_task"
          nomad_service   = "nomad_service"
        }
      }
    }]],
    [["binding-rule", "lightcone-services", {
      Description = "lightcone-services", AuthMethod = "nomad-workloads"
      BindType    = "service", BindName = "$${value.nomad_service}", Selector = "\"nomad_service\" in value"
    }]],
    [for job in local.job_roles : ["binding-rule", "lightcone-${job}", {
      Description = "lightcone-${job}", AuthMethod = "nomad-workloads"
      BindType    = "role", BindName = "lightcone-${job}"
      Selector    = "\"nomad_service\" not in value and value.nomad_namespace == \"default\" and ${local.job_selectors[job]}"
    }]],
  )
}

resource "terraform_data" "access" {
  triggers_replace = {
    first   = terraform_data.membership[local.first].id
    access  = jsonencode(local.access)
    tokens  = jsonencode(local.token_grants)
    secrets = var.secrets_revision
  }
  depends_on = [module.consul_server]

  connection {
    host        = local.connections[local.first].host
    host_key    = local.connections[local.first].host_key
    user        = local.connections[local.first].user
    port        = local.connections[local.first].port
    private_key = file(pathexpand(local.connections[local.first].private_key_path))
    timeout     = "1m"
  }
  provisioner "file" {
    content = join("", [for line in concat(
      [for it in local.access : [it[0], it[1], jsonencode(it[2])]],
      [for name, grants in local.token_grants : ["token", local.accessors[name], jsonencode(merge(grants, {
        AccessorID = local.accessors[name], SecretID = local.tokens[name], Description = name
      }))]],
    ) : "${join("\t", line)}\n"])
    destination = ".lightcone/access"
  }
  provisioner "remote-exec" {
    inline = ["${local.connections[local.first].run}/acl.sh \"$PWD/.lightcone/access\""]
  }
}

# Consul wants to see Nomad's keys before it believes in them: so this comes late.
resource "terraform_data" "logins" {
  triggers_replace = {
    first  = terraform_data.membership[local.first].id
    logins = jsonencode(local.logins)
  }
  depends_on = [terraform_data.server_ready]

  connection {
    host        = local.connections[local.first].host
    host_key    = local.connections[local.first].host_key
    user        = local.connections[local.first].user
    port        = local.connections[local.first].port
    private_key = file(pathexpand(local.connections[local.first].private_key_path))
    timeout     = "1m"
  }
  provisioner "file" {
    content     = join("", [for it in local.logins : "${it[0]}\t${it[1]}\t${jsonencode(it[2])}\n"])
    destination = ".lightcone/logins"
  }
  provisioner "remote-exec" {
    inline = ["${local.connections[local.first].run}/acl.sh \"$PWD/.lightcone/logins\""]
  }
}
