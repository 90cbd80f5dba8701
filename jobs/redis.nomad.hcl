# The gateways' shared cache: three Redis servers, one of them master, and three
# Sentinels, which elect another when it is gone. One server and one Sentinel a host,
# over the racks. What it knows of keys can be had again from Consul, and its count of
# what tenants have used this month from the gateways, as long as they run. So it keeps
# nothing on disk and favours availability: gateways go on without it.
#
# Who is master is the Sentinels' to say, and theirs alone: a server that starts asks
# them. A Sentinel that starts goes on with what it knew; a new one asks the others;
# where nobody knows, the first master is the allocation with index 0. A wrong guess
# is put right: of two masters, the one that was elected later stays.

variable "datacenters" {
  description = "Datacenters to run in."
  type        = list(string)
  default     = ["*"]
}

variable "keys_revision" {
  description = "Counted up when the keys in the Nomad variable nomad/jobs have changed, to have them read."
  type        = number
  default     = 1
}

variable "port" {
  description = "Port of the servers, on each of their hosts."
  type        = number
  default     = 6379
}

variable "sentinel_port" {
  description = "Port of the Sentinels, on each of their hosts."
  type        = number
  default     = 26379
}

variable "memory" {
  description = "Memory of a server in MB: half of it is for the cache, the rest for replication, connections and what the allocator loses."
  type        = number
  default     = 256
  validation {
    condition     = var.memory >= 64
    error_message = "The memory of a Redis server must be at least 64 MB."
  }
}

variable "cpu" {
  description = "CPU share of a server, in MHz."
  type        = number
  default     = 200
}

locals {
  # The instances in Consul, also those that are only just starting.
  instances = {
    for service in ["redis", "redis-sentinel"] :
    service => "{{ range service \"${service}|any\" }}{{ index .ServiceMeta \"index\" }} {{ .Address }} {{ .Port }}\n{{ end }}"
  }
}

job "redis" {
  datacenters = var.datacenters
  type        = "service"

  group "redis" {
    count = 3

    spread {
      attribute = "${meta.rack}"
    }

    constraint {
      attribute = "${node.class}"
      value     = "worker"
    }

    # A majority of Sentinels must survive any one host.
    constraint {
      distinct_hosts = true
    }

    # Its ports are taken while it runs, so there is no canary. One after the other,
    # and each must have caught up with the master before the next: never two down.
    update {
      max_parallel      = 1
      auto_revert       = true
      health_check      = "checks"
      min_healthy_time  = "10s"
      healthy_deadline  = "90s"
      progress_deadline = "0s"
    }

    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "1m"
      unlimited      = true
    }

    # A rack that is cut off has a majority left on the others and gets its own back
    # when it heals; somebody in its place, with its index, only when it stays away.
    disconnect {
      lost_after = "1h"
      replace    = false
      reconcile  = "keep_original"
    }

    # What the Sentinel knew stays on the host, and is found there by its successor.
    ephemeral_disk {
      sticky = true
      size   = 100 + var.memory # a copy of the cache passes through, on its way to a replica
    }

    network {
      port "redis" {
        static = var.port
      }
      port "sentinel" {
        static = var.sentinel_port
      }
    }

    service {
      name = "redis"
      port = "redis"
      tags = ["cache"]
      meta {
        index = "${NOMAD_ALLOC_INDEX}"
      }
      check {
        name     = "listens"
        type     = "tcp"
        interval = "5s"
        timeout  = "1s"
      }
      check {
        name     = "has what the master has"
        type     = "script"
        task     = "redis"
        command  = "/bin/sh"
        args     = ["/local/check.sh"] # by NOMAD_TASK_DIR, Nomad does not find its own check again
        interval = "5s"
        timeout  = "60s" # it bounds itself: see check.sh
      }
    }

    service {
      name = "redis-sentinel"
      port = "sentinel"
      tags = ["cache"]
      meta {
        index = "${NOMAD_ALLOC_INDEX}"
      }
      check {
        name     = "listens"
        type     = "tcp"
        interval = "2s"
        timeout  = "1s"
      }
      check {
        name     = "knows a master"
        type     = "script"
        task     = "sentinel"
        command  = "/bin/sh"
        args     = ["/local/check.sh"]
        interval = "5s"
        timeout  = "60s" # it bounds itself: see check.sh
      }
    }

    task "redis" {
      meta {
        keys_revision = var.keys_revision
      }

      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGTERM"
      kill_timeout = "15s"

      restart {
        attempts = 10
        interval = "1m"
        delay    = "1s"
        mode     = "delay"
      }

      config {
        command = "/bin/sh"
        args    = ["${NOMAD_TASK_DIR}/redis.sh"]
      }

      template {
        destination = "${NOMAD_TASK_DIR}/redis.sh"
        change_mode = "noop"
        data        = <<-SH
          # Starts the server as what this host's Sentinel says it is.
          set -eu
          PATH=/usr/bin:/bin
          read -r REDISCLI_AUTH <"$NOMAD_SECRETS_DIR/sentinel.password"
          export REDISCLI_AUTH
          first=no waited=no
          while sleep 0.2; do
            set -- $(timeout 1 redis-cli -h "$NOMAD_IP_sentinel" -p "$NOMAD_PORT_sentinel" sentinel get-master-addr-by-name lightcone 2>/dev/null || true)
            if [ "$#" != 2 ]; then continue; fi
            if [ "$1" != "$NOMAD_IP_redis" ] || [ "$waited" = yes ]; then break; fi
            # A master that comes back at once comes empty, and its replicas would forget
            # everything, too: so the Sentinels get the time to elect one of these. Only
            # a region's very first master has nobody to wait for.
            if [ -f "$NOMAD_ALLOC_DIR/data/first" ]; then read -r first <"$NOMAD_ALLOC_DIR/data/first"; fi
            if [ "$first" = yes ]; then break; fi
            sleep 6
            waited=yes
          done
          echo no >"$NOMAD_ALLOC_DIR/data/first"
          echo "the master is $1" >&2
          if [ "$1" = "$NOMAD_IP_redis" ]; then
            set --
          else
            set -- --replicaof "$1" "$2"
          fi
          # Included, not named: the Sentinels' CONFIG REWRITE would else write who is
          # master into it, and that must be asked anew at every start.
          exec redis-server --include "$NOMAD_SECRETS_DIR/redis.conf" "$@"
        SH
      }

      template {
        destination = "${NOMAD_TASK_DIR}/check.sh"
        change_mode = "noop"
        data        = <<-SH
          # The server answers, and is the master or in step with it. Within a second: a
          # script check that outlives its timeout brings down the executor, and with it
          # the task (Nomad 1.11, LibcontainerExecutor.Exec sends on a closed channel).
          PATH=/usr/bin:/bin
          read -r REDISCLI_AUTH <"$NOMAD_SECRETS_DIR/replication.password"
          export REDISCLI_AUTH
          answer=$(timeout 1 redis-cli -e -h "$NOMAD_IP_redis" -p "$NOMAD_PORT_redis" --user replication info replication) || exit 2
          case $answer in
            *role:master* | *master_link_status:up*) echo PONG ;;
            *) echo "no master is in reach"; exit 2 ;;
          esac
        SH
      }

      # The keys come from the Nomad variable nomad/jobs. They are read at the start.
      # With another redis_password, count keys_revision up, and the update is like any
      # other. The two that servers and Sentinels know each other by cannot change one
      # after the other: stop the job, change them, run it again; gateways go on meanwhile.
      template {
        destination = "${NOMAD_SECRETS_DIR}/redis.conf"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
        data        = <<-REDIS
          bind {{ env "NOMAD_IP_redis" }}
          port {{ env "NOMAD_PORT_redis" }}
          replica-announce-ip {{ env "NOMAD_IP_redis" }}
          replica-announce-port {{ env "NOMAD_PORT_redis" }}
          protected-mode no
          dir {{ env "NOMAD_TASK_DIR" }}

          # A cache: nothing on disk, and what was not used for longest goes first.
          save ""
          appendonly no
          maxmemory ${floor(var.memory / 2)}mb
          maxmemory-policy allkeys-lru
          # A master without replicas goes on taking writes: what is lost with it can be
          # had again, and a cache that refuses writes is of less use than an empty one.
          min-replicas-to-write 0
          repl-diskless-sync yes
          repl-diskless-sync-delay 0
          repl-ping-replica-period 1
          repl-timeout 10
          repl-backlog-size 4mb
          shutdown-timeout 3

          # Whoever does not read what it asked for is closed before it costs the others.
          client-output-buffer-limit normal 8mb 4mb 10
          client-output-buffer-limit replica 32mb 16mb 30
          client-output-buffer-limit pubsub 4mb 1mb 10
          maxclients 4096
          tcp-keepalive 10

          # Gateways, workers and the management plane may do what they must (identity/edge,
          # ACLRules), and nothing that looks at or ends what others do.
          {{ with nomadVar "nomad/jobs" }}
          user default off
          user lightcone on #{{ .redis_password.Value | sha256Hex }} resetkeys resetchannels ~lightcone:* &lightcone:* -@all +@connection +hmget +hset +pexpire +hincrby +expire +eval +evalsha +publish +subscribe +unsubscribe +ping +multi +exec +info -@dangerous +info
          user replication on #{{ .redis_replication_password.Value | sha256Hex }} resetkeys allchannels -@all +psync +replconf +ping +info +role +publish +subscribe +multi +exec +slaveof +config|rewrite +client|setname +client|kill +script|kill
          masteruser replication
          masterauth {{ .redis_replication_password }}
          {{ end }}
        REDIS
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/sentinel.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .sentinel_password }}{{ end }}\n"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/replication.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .redis_replication_password }}{{ end }}\n"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
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

    task "sentinel" {
      meta {
        keys_revision = var.keys_revision
      }

      driver       = "exec"
      user         = "nobody"
      kill_signal  = "SIGTERM"
      kill_timeout = "5s"

      consul {}

      restart {
        attempts = 10
        interval = "1m"
        delay    = "1s"
        mode     = "delay"
      }

      config {
        command = "/bin/sh"
        args    = ["${NOMAD_TASK_DIR}/sentinel.sh"]
      }

      template {
        destination = "${NOMAD_TASK_DIR}/sentinel.sh"
        change_mode = "noop"
        data        = <<-SH
          # Starts the Sentinel with what the others know, or else with what it knew itself.
          set -eu
          umask 077 # its state holds passwords
          PATH=/usr/bin:/bin
          state=$NOMAD_ALLOC_DIR/data/sentinel.conf
          read -r REDISCLI_AUTH <"$NOMAD_SECRETS_DIR/sentinel.password"
          export REDISCLI_AUTH
          master= epoch= attempts=3
          [ ! -f "$state" ] || attempts=1
          while [ -z "$master" ]; do
            while read -r _ address port; do
              [ "$address" != "$NOMAD_IP_sentinel" ] || continue
              set -- $(timeout 1 redis-cli -h "$address" -p "$port" sentinel get-master-addr-by-name lightcone </dev/null 2>/dev/null || true)
              if [ "$#" = 2 ]; then
                master=$1
                break
              fi
            done <"$NOMAD_TASK_DIR/sentinels"
            attempts=$((attempts - 1))
            if [ -n "$master" ]; then
              break
            elif [ "$attempts" -gt 0 ]; then
              sleep 0.5
            elif [ -f "$state" ]; then
              while read -r line; do
                case $line in
                  "sentinel monitor lightcone "*) set -- $line && master=$4 ;;
                  "sentinel config-epoch lightcone "*) epoch=$line ;; # the later election wins
                esac
              done <"$state"
            else
              while read -r index address _; do
                [ "$index" != 0 ] || master=$address
              done <"$NOMAD_TASK_DIR/servers"
              echo yes >"$NOMAD_ALLOC_DIR/data/first" # for redis.sh
              sleep 0.5 # it may not be listed yet
            fi
          done
          echo "the master is $master" >&2

          # All that are there, as Consul lists them: so whoever is gone is forgotten,
          # and the others are found while the master is down, too. A Sentinel's id is
          # made of its index: one that has moved takes its predecessor's place, and
          # the majority that an election takes stays two of three.
          {
            while read -r line; do echo "$line"; done <"$NOMAD_SECRETS_DIR/sentinel.conf"
            printf 'sentinel myid %040d\n' "$NOMAD_ALLOC_INDEX"
            echo "sentinel monitor lightcone $master $NOMAD_PORT_redis 2"
            echo "$epoch"
            # Which elections it took part in, so that it votes once in each.
            if [ -f "$state" ]; then
              while read -r line; do
                case $line in "sentinel leader-epoch "* | "sentinel current-epoch "*) echo "$line" ;; esac
              done <"$state"
            fi
            seen=" $master "
            while read -r _ address port; do
              case $seen in *" $address "*) continue ;; esac
              seen="$seen$address "
              echo "sentinel known-replica lightcone $address $port"
            done <"$NOMAD_TASK_DIR/servers"
            seen=" $NOMAD_ALLOC_INDEX "
            while read -r index address port; do
              case $seen in *" $index "*) continue ;; esac
              [ "$address" != "$NOMAD_IP_sentinel" ] || continue
              seen="$seen$index "
              printf 'sentinel known-sentinel lightcone %s %s %040d\n' "$address" "$port" "$index"
            done <"$NOMAD_TASK_DIR/sentinels"
          } >"$state.new"
          mv "$state.new" "$state"
          unset REDISCLI_AUTH
          exec redis-server "$state" --sentinel
        SH
      }

      template {
        destination = "${NOMAD_TASK_DIR}/check.sh"
        change_mode = "noop"
        data        = <<-SH
          # The Sentinel answers within a second, and names a master.
          PATH=/usr/bin:/bin
          read -r REDISCLI_AUTH <"$NOMAD_SECRETS_DIR/sentinel.password"
          export REDISCLI_AUTH
          timeout 1 redis-cli -e -h "$NOMAD_IP_sentinel" -p "$NOMAD_PORT_sentinel" sentinel get-master-addr-by-name lightcone || exit 2
        SH
      }

      template {
        destination = "${NOMAD_TASK_DIR}/sentinels"
        change_mode = "noop" # Sentinels tell each other what is new
        data        = local.instances["redis-sentinel"]
      }
      template {
        destination = "${NOMAD_TASK_DIR}/servers"
        change_mode = "noop"
        data        = local.instances["redis"]
      }

      template {
        destination = "${NOMAD_SECRETS_DIR}/sentinel.conf"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
        data        = <<-SENTINEL
          bind {{ env "NOMAD_IP_sentinel" }}
          port {{ env "NOMAD_PORT_sentinel" }}
          sentinel announce-ip {{ env "NOMAD_IP_sentinel" }}
          sentinel announce-port {{ env "NOMAD_PORT_sentinel" }}
          protected-mode no
          dir {{ env "NOMAD_ALLOC_DIR" }}/data
          sentinel deny-scripts-reconfig yes
          # A Sentinel makes a lost connection again after a second (its ping period), so
          # with one second of patience each takes a master just elected for dead.
          sentinel down-after-milliseconds lightcone 2000
          sentinel failover-timeout lightcone 5000
          sentinel parallel-syncs lightcone 2
          client-output-buffer-limit pubsub 4mb 1mb 10
          # Whoever has sentinel_password may ask who is master and hear of another;
          # the Sentinels themselves are the user replication.
          {{ with nomadVar "nomad/jobs" }}
          user default on #{{ .sentinel_password.Value | sha256Hex }} allchannels -@all +@connection +@pubsub -publish -@dangerous +sentinel|get-master-addr-by-name +sentinel|sentinels +sentinel|replicas +sentinel|slaves +sentinel|master +sentinel|masters
          user replication on #{{ .redis_replication_password.Value | sha256Hex }} allchannels +@all
          sentinel sentinel-user replication
          sentinel sentinel-pass {{ .redis_replication_password }}
          sentinel auth-user lightcone replication
          sentinel auth-pass lightcone {{ .redis_replication_password }}
          {{ end }}
        SENTINEL
      }
      template {
        destination = "${NOMAD_SECRETS_DIR}/sentinel.password"
        data        = "{{ with nomadVar \"nomad/jobs\" }}{{ .sentinel_password }}{{ end }}\n"
        perms       = "0600"
        uid         = 65534
        gid         = 65534
        change_mode = "noop"
      }

      resources {
        cpu    = 100
        memory = 64
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }
    }
  }
}
