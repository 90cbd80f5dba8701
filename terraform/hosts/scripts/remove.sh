#!/usr/bin/env bash
# Takes a host out of the cluster: Nomad drains it and leaves, Consul leaves, both
# are stopped and disabled. Their data, configuration and users stay.
# Usage: remove.sh INIT.
set -euo pipefail
init=$1
. "${BASH_SOURCE%/*}/init.sh"

# When a whole cluster goes, its hosts are told at the same time, but those that
# drain need a server for it: so servers give them a moment to begin, and wait.
draining() { curl --silent --max-time 5 http://127.0.0.1:4646/v1/nodes | grep -q '"Drain":true'; }
if running nomad && grep -q '^server {' /etc/nomad.d/agent.hcl; then
	sleep 3
	end=$((SECONDS + 40))
	while draining && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
fi

for agent in nomad consul; do
	if [ "$init" = systemd ] && [ -e "/etc/systemd/system/$agent.service" ]; then
		systemctl disable --quiet "$agent.service"
	fi
	if running "$agent"; then
		interrupt_agent "$agent" 40 || true # what does not leave in time is stopped
	fi
	stop_agent "$agent"
	rm -f "/var/lib/lightcone/$agent.started"
done

# kill_tree ends a process and all below it.
kill_tree() {
	local child
	for child in $(cat "/proc/$1"/task/*/children 2>/dev/null); do
		kill_tree "$child"
	done
	kill -KILL "$1" 2>/dev/null || true # it may have ended by itself
}

# What is left of Nomad are the executors of tasks that were not drained, for
# when a whole cluster goes, no server may be left to ask.
for exe in /proc/[0-9]*/exe; do
	case $(readlink "$exe") in
	/usr/local/bin/nomad*)
		pid=${exe#/proc/}
		kill_tree "${pid%/exe}"
		;;
	esac
done
