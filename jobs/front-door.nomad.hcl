# The load balancer: HAProxy, which finds the gateways in Consul. It runs on edge
# hosts, whose addresses the region's name points to.

variable "datacenters" {
  description = "Datacenters to run in."
  type        = list(string)
  default     = ["*"]
}

variable "count" {
  description = "Load balancers, each on an edge host of its own."
  type        = number
  default     = 1
}

variable "bind" {
  description = "Addresses to take calls on; * is every one of the host."
  type        = list(string)
  default     = ["*"]
}

variable "port" {
  description = "Port for calls."
  type        = number
  default     = 8080
  validation {
    condition     = var.port >= 1024 && var.port <= 65535
    error_message = "The port must be 1024 to 65535: HAProxy runs without privileges here."
  }
}

variable "operator_bind" {
  description = "Address of the operators' port: statistics, the metrics of every service, and the management plane. Never a public one."
  type        = string
  default     = "127.0.0.1"
}

variable "operator_port" {
  description = "Port of the operators' pages and of the management plane."
  type        = number
  default     = 8404
}

variable "most_gateways" {
  description = "The most gateways that are used."
  type        = number
  default     = 32
}

variable "functions" {
  description = "Functions, separated by commas: the operators' pages reach the metrics of their workers."
  type        = string
  default     = "resize"
}

variable "retry_kib" {
  description = "A call up to this size, in KiB, is sent to another gateway when its own dies before it answers; larger ones are not kept for that."
  type        = number
  default     = 512
  validation {
    condition     = var.retry_kib >= 16 && var.retry_kib <= 4096
    error_message = "The retry_kib must be 16 to 4096: each call in flight takes twice as much memory at most."
  }
}

variable "memory" {
  description = "Memory in MB: half of it is for calls in flight, the rest for connections."
  type        = number
  default     = 512
}

variable "cpu" {
  description = "CPU share, in MHz."
  type        = number
  default     = 500
}

locals {
  # The management plane's routes: on the operators' port, and on no other.
  managed = ["/v1/tenants", "/v1/keys", "/v1/audit", "/v1/quarantine"]
  binds   = join("\n", [for address in var.bind : "  bind ${address}:${var.port}"])
  # Lines of their own, not a server-template: that does not heed tcp-ut.
  gateways = join("\n", [
    for i in range(1, var.most_gateways + 1) : "  server gateway${i} _gateway._tcp.service.consul tcp-ut 2s"
  ])
  # A call in flight takes up to four; one more waits for a buffer.
  buffers = max(64, floor(var.memory * 1024 / 2 / var.retry_kib))

  # One instance's metrics, for the links in Consul's UI; the operator's key is the
  # password.
  measured = merge(
    { gateway = "gateway-manage", scheduler = "scheduler", identity = "identity", queue = "queue-manage" },
    { for name in split(",", var.functions) : "worker-${name}" => "worker-${name}-manage" },
  )
  metrics_routes = join("\n", [
    for name, _ in local.measured : "  use_backend metrics-${name} if { path /metrics/${name} /metrics/${name}-manage }"
  ])
  metrics_backends = join("\n", [
    for name, service in local.measured : <<-BACKEND
    backend metrics-${name}
      http-request set-path /metrics
      default-server check inter 2s resolvers consul resolve-prefer ipv4 resolve-opts allow-dup-ip init-addr none
      server-template one 8 _${service}._tcp.service.consul
    BACKEND
  ])
}

job "front-door" {
  datacenters = var.datacenters
  type        = "service"

  group "haproxy" {
    count = var.count

    constraint {
      attribute = "${node.class}"
      value     = "edge"
    }

    constraint {
      distinct_hosts = true
    }

    # Its port is taken while it runs, so there is no canary: one after the other.
    update {
      max_parallel      = 1
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "3s"
      healthy_deadline  = "45s"
      progress_deadline = "0s"
    }

    restart {
      attempts = 10
      interval = "1m"
      delay    = "1s"
      mode     = "delay"
    }

    network {
      port "calls" {
        static = var.port
      }
      port "operator" {
        static = var.operator_port
      }
    }

    service {
      name = "front-door"
      port = "calls"
      tags = ["calls"]
      check {
        name     = "reaches a gateway"
        type     = "http"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "haproxy" {
      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGUSR1" # finish what has begun
      kill_timeout = "75s"

      config {
        command = "/usr/sbin/haproxy"
        args    = ["-db", "-f", "${NOMAD_TASK_DIR}/haproxy.cfg"]
      }

      template {
        destination = "${NOMAD_TASK_DIR}/haproxy.cfg"
        # What the two sides of a line mean to HAProxy, Consul's templates must not read.
        left_delimiter  = "<<<"
        right_delimiter = ">>>"
        data            = <<-HAPROXY
          global
            fd-hard-limit 65536 # connections follow from it, or from a lower limit of the host
            tune.buffers.limit ${local.buffers}
            tune.bufsize ${var.retry_kib * 1024}
            log stdout format raw local0 info
            hard-stop-after 70s

          defaults
            mode http
            log global
            # What went wrong, and nothing else.
            option httplog
            option dontlog-normal
            timeout connect 500ms
            timeout client 70s
            timeout server 70s
            timeout http-request 15s
            timeout http-keep-alive 60s
            timeout queue 2s
            timeout check 500ms
            # A gateway that cannot be reached, or dies without a word: another one.
            retries 3
            option redispatch 1
            retry-on conn-failure empty-response
            # A rack without power says nothing at all: ask after a second of silence.
            option srvtcpka
            srvtcpka-idle 1s
            srvtcpka-intvl 1s
            srvtcpka-cnt 2

          # Consul on this host. While it is away, what was last known goes on.
          resolvers consul
            nameserver local tcp@127.0.0.1:8600
            accepted_payload_size 65535
            resolve_retries 2
            timeout resolve 1s
            timeout retry 500ms
            hold valid 1s
            hold obsolete 0s
            hold nx 24d
            hold timeout 24d
            hold refused 24d
            hold other 24d

          frontend calls
          ${local.binds}
            default_backend gateways

          backend gateways
            balance leastconn
            option http-buffer-request
            # A connection for each call: what is sent over an old one to a gateway that
            # has just been cut off is in limbo, while a new one fails at once, and the
            # call goes to another.
            option http-server-close
            option httpchk GET /readyz
            http-check expect status 200
            # Three connections in a row that fail are enough to leave one alone until a
            # check finds it well again: a rack may take two of three with it.
            default-server check inter 500ms fastinter 200ms fall 2 rise 1 observe layer4 error-limit 3 on-error mark-down resolvers consul resolve-prefer ipv4 resolve-opts allow-dup-ip init-addr none
          ${local.gateways}

          frontend operator
            bind ${var.operator_bind}:${var.operator_port}
            http-request use-service prometheus-exporter if { path /metrics /metrics/front-door }
            http-request redirect location /haproxy if { path / }
            stats enable
            stats uri /haproxy
            stats refresh 5s
            acl managed path ${join(" ", local.managed)}
            acl managed path_beg ${join("/ ", local.managed)}/
            use_backend identity if managed
          ${local.metrics_routes}

          backend identity
            option httpchk GET /readyz
            http-check expect status 200
            # What may have been done is not sent again: a key would be made twice.
            retry-on conn-failure
            default-server check inter 1s fastinter 200ms fall 2 rise 1 resolvers consul resolve-prefer ipv4 resolve-opts allow-dup-ip init-addr none
            server-template one 8 _identity._tcp.service.consul

          ${local.metrics_backends}
        HAPROXY
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }
    }
  }
}
