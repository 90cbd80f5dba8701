#!/usr/bin/env bash
# Has an agent run with the configuration that was staged for it.
# Usage: apply-agent.sh AGENT INIT USER STAGED, where STAGED is a folder with
# agent.hcl, host.hcl, secrets.hcl and AGENT.service. The agent is restarted only
# if these, its executable or its user differ from what it was started with.
set -euo pipefail
agent=$1 init=$2 user=$3 staged=$4
. "${BASH_SOURCE%/*}/init.sh"
config=/etc/$agent.d data=/var/lib/$agent
record=/var/lib/lightcone/$agent.started

# Each file has its rights before it has its place.
for file in agent.hcl host.hcl secrets.hcl; do
	install -m 600 -o "$user" -g "$user" "$staged/$file" "$config/.$file"
	mv -f "$config/.$file" "$config/$file"
done
if [ "$init" = systemd ]; then
	install -m 644 "$staged/$agent.service" "/etc/systemd/system/$agent.service"
fi
rm -f "$staged/secrets.hcl"

now=$({
	echo "$init $user"
	cat "$config"/{agent,host,secrets}.hcl "$staged/$agent.service" "/var/lib/lightcone/$agent.sha256"
} | sha256sum)
if running "$agent" && [ "$(cat "$record" 2>/dev/null)" = "$now" ]; then
	exit 0
fi
rm -f "$record" # from here until it runs, nothing is known to be right
stop_agent "$agent"
# After a change of user, such as that of a host which becomes a worker too.
[ "$(stat --format=%U "$data")" = "$user" ] || chown -R "$user:" "$data"
start_agent "$agent" "$user"

# A server waits for the others elsewhere: here they may not be started yet.
end=$((SECONDS + 90))
case $agent in
consul) ready=(curl -s --max-time 5 -o /dev/null --fail http://127.0.0.1:8500/v1/status/leader) ;;
nomad) ready=(curl -s --max-time 5 -o /dev/null http://127.0.0.1:4646/v1/agent/health) ;;
esac
until "${ready[@]}"; do
	if [ "$SECONDS" -ge "$end" ] || ! running "$agent"; then
		echo "The $agent of this host does not answer; its last words:" >&2
		said_last "$agent"
		exit 1
	fi
	sleep 0.2
done
echo "$now" >"$record"
