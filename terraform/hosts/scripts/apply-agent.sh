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
first=yes
[ ! -e "$record" ] || first=no
rm -f "$record" # from here until it runs, nothing is known to be right
stop_agent "$agent"
# After a change of user, such as that of a host which becomes a worker too.
[ "$(stat --format=%U "$data")" = "$user" ] || chown -R "$user:" "$data"
start_agent "$agent" "$user"

# At its first start an agent only has to answer: the servers that it needs may not
# be started yet. Later it has to find a leader, so that servers which are changed
# one after the other (terraform apply -parallelism=1) keep their majority.
port=8500
[ "$agent" = consul ] || port=4646
ready() {
	local leader
	leader=$(curl --silent --max-time 5 "http://127.0.0.1:$port/v1/status/leader") || return 1
	[ "$first" = yes ] || [[ $leader = *[0-9]:[0-9]* ]]
}
end=$((SECONDS + 90))
until ready; do
	if [ "$SECONDS" -ge "$end" ] || ! running "$agent"; then
		echo "The $agent of this host is not ready; its last words:" >&2
		said_last "$agent"
		exit 1
	fi
	sleep 0.2
done
echo "$now" >"$record"
