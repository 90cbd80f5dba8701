# Nomad {{if .Server}}server{{else}}client{{end}} on {{.Host.Name}}, written by `make cluster`.
datacenter           = "{{.Datacenter}}"
name                 = "{{if .Server}}lightcone-server{{else}}{{.Host.Name}}{{end}}"
data_dir             = "{{.Folder}}{{if .Server}}/server{{end}}"
bind_addr            = "{{.Host.Address}}"
disable_update_check = true
leave_on_interrupt   = false
leave_on_terminate   = false
log_level            = "INFO"

consul {
  address = "127.0.0.1:8500"
  token   = "{{if .Server}}{{.Secrets.NomadServer}}{{else}}{{.Secrets.NomadClient}}{{end}}"
  # Every service and task gets a Consul token of its own, for as long as it runs,
  # in exchange for an identity that Nomad signs.
  service_identity {
    aud = ["consul.io"]
    ttl = "1h"
  }
  task_identity {
    aud = ["consul.io"]
    ttl = "1h"
  }
}
{{if .Server}}
# The web UI and the API, for this machine alone and for the racks.
addresses {
  http = "127.0.0.1 {{.Host.Address}}"
}

advertise {
  http = "{{.Host.Address}}"
}

server {
  enabled           = true
  bootstrap_expect  = 1
  encrypt           = "{{.Secrets.Gossip}}"
  min_heartbeat_ttl = "5s"
  heartbeat_grace   = "5s"
  raft_multiplier   = 1

  # A resize process may for a moment need much more memory than it usually does.
  default_scheduler_config {
    memory_oversubscription_enabled = true
  }
}
{{else}}
ports {
  http = 4656
}

client {
  enabled           = true
  servers           = ["{{.ServerAddress}}:4647"]
  node_class        = "{{.Host.Class}}"
  cgroup_parent     = "{{.Host.Name}}"
  network_interface = "{{.Interface}}"
  cpu_total_compute = {{.CPU}}
  memory_total_mb   = {{.Memory}}
  max_kill_timeout  = "80s" # the longest call may finish
  gc_max_allocs     = 12
  gc_interval       = "30s"
  {{- if .Host.Rack}}
  meta {
    rack = "{{.Host.Rack}}"
  }
  {{- end}}

  # Clouds are not asked who this machine is.
  options {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }

  # What tasks see of the host's file system: libraries, the load balancer, and Redis
  # with what its scripts call. Links cannot be linked: sh and redis-server are some.
  chroot_env {
    "/etc/alternatives"       = "/etc/alternatives"
    "/etc/fonts"              = "/etc/fonts"
    "/etc/ld.so.cache"        = "/etc/ld.so.cache"
    "/etc/passwd"             = "/etc/passwd"
    "/etc/ssl/certs"          = "/etc/ssl/certs"
    "/lib/x86_64-linux-gnu"   = "/lib/x86_64-linux-gnu"
    "/lib64"                  = "/lib64"
    "/usr/lib/x86_64-linux-gnu" = "/usr/lib/x86_64-linux-gnu"
    "/usr/sbin/haproxy"       = "/usr/sbin/haproxy"
    "/usr/bin/dash"           = "/bin/sh"
    "/usr/bin/mkdir"          = "/usr/bin/mkdir"
    "/usr/bin/mv"             = "/usr/bin/mv"
    "/usr/bin/sleep"          = "/usr/bin/sleep"
    "/usr/bin/timeout"        = "/usr/bin/timeout"
    "/usr/bin/redis-cli"      = "/usr/bin/redis-cli"
    "/usr/bin/redis-check-rdb" = "/usr/bin/redis-server"
  }

  # For resize-bulk: the folder whose photographs it reads and writes.
  host_volume "photographs" {
    path = "{{.Photographs}}"
  }
{{- if .Host.Rack}}

  # Usage records wait here for the bucket.
  host_volume "usage" {
    path = "{{.Usage}}"
  }
{{- else}}

  # The S3 store's buckets: usage records, bills, invoices.
  host_volume "store" {
    path = "{{.Store}}"
  }
{{- end}}

  # That Consul or Nomad's servers are away is no reason to stop a task, however
  # long: go on with what was last known.
  template {
    consul_retry {
      attempts = 0
    }
    nomad_retry {
      attempts = 0
    }
  }
}
{{end}}
