#!/usr/bin/env bash
# Waits until Nomad works: on a server, until there is a leader; on a client, until
# the servers say that this host is ready. Usage: await-nomad.sh server|client NAME.
set -euo pipefail
role=$1 name=$2

works() {
	case $role in
	server) curl --silent --max-time 5 http://127.0.0.1:4646/v1/status/leader | grep -q ':' ;;
	client) curl --silent --max-time 5 http://127.0.0.1:4646/v1/nodes |
		grep -o '"Name":"'"$name"'"[^}]*' | grep -q '"Status":"ready"' ;;
	esac
}
end=$((SECONDS + 120))
until works; do
	if [ "$SECONDS" -ge "$end" ]; then
		echo "Nomad is not ready as a $role on $name after 120 s: do the hosts reach each other on ports 4646 to 4648?" >&2
		exit 1
	fi
	sleep 0.2
done
