# Consul on {{.Host.Name}}, written by `make cluster`.
datacenter           = "{{.Datacenter}}"
node_name            = "{{.Host.Name}}"
data_dir             = "{{.Folder}}/consul"
bind_addr            = "{{.Host.Address}}"
client_addr          = "127.0.0.1"
encrypt              = "{{.Secrets.Gossip}}"
disable_update_check = true
leave_on_terminate   = false
log_level            = "INFO"
{{if .Server}}
server           = true
bootstrap_expect = 1

ui_config {
  enabled = true
  # The dashboard link of every service in the UI: the load balancer's operator
  # port fetches the metrics of one of its instances.
  dashboard_url_templates {
    service = "http://127.0.0.1:8404/metrics/{{"{{Service.Name}}"}}"
  }
}
{{else}}
retry_join     = ["{{.ServerAddress}}"]
retry_interval = "1s"
{{end}}
ports {
  grpc     = -1
  grpc_tls = -1
  serf_wan = -1
}

performance {
  raft_multiplier = 1
}

# While the servers are away, DNS goes on answering what was last known.
dns_config {
  allow_stale = true
  max_stale   = "87600h"
  use_cache   = true
}

acl {
  enabled                  = true
  default_policy           = "deny"
  down_policy              = "extend-cache"
  enable_token_persistence = false
  tokens {
    {{- if .Server}}
    initial_management = "{{.Secrets.ConsulManagement}}"
    {{- end}}
    agent = "{{if .Server}}{{.Secrets.ConsulManagement}}{{else}}{{.Secrets.ConsulAgent}}{{end}}"
  }
}
