#!/usr/bin/env bash
# Sets up Consul's access control from the first server: the bootstrap token, once,
# and then the policies, roles, tokens, auth methods and binding rules that are
# wanted. Usage: acl.sh WANTED, a file of lines KIND<tab>NAME<tab>BODY, the body in
# the JSON of Consul's HTTP API; it holds secrets, and is deleted. What is there
# already is brought up to date; what is not listed is left alone.
set -euo pipefail
wanted=$1
trap 'rm -f "$wanted"' EXIT
token_file=/etc/lightcone/consul-bootstrap.token

# consul METHOD PATH [BODY] prints what Consul answers; the token and the body
# stay out of the list of processes.
consul() {
	printf '%s' "${3-}" | curl --silent --fail-with-body --max-time 10 --request "$1" \
		--header @<(printf 'X-Consul-Token: %s\n' "$(cat "$token_file" 2>/dev/null)") \
		--data-binary @- "http://127.0.0.1:8500/v1/$2"
}

# first_id prints the first "ID" of some JSON, which is the object's own.
first_id() { grep -o '"ID":"[^"]*"' | head -n 1 | cut -d '"' -f 4; }

# put KIND NAME BODY makes one object what it should be.
put() {
	local kind=$1 name=$2 body=$3 id=
	case $kind in
	policy | role) id=$(consul GET "acl/$kind/name/$name" 2>/dev/null | first_id) || id= ;;
	auth-method) ! consul GET "acl/$kind/$name" >/dev/null 2>&1 || id=$name ;;
	binding-rule) id=$(consul GET acl/binding-rules | grep -o '"ID":"[^"]*","Description":"'"$name"'"' | first_id) || id= ;;
	token)
		! consul GET "acl/token/$name" >/dev/null 2>&1 || id=$name
		# A token cannot change its secret: one with another is made again.
		if [ -n "$id" ] && ! consul PUT "acl/token/$name" "$body" >/dev/null 2>&1; then
			consul DELETE "acl/token/$name" >/dev/null
			id=
		fi
		;;
	esac
	if ! answer=$(consul PUT "acl/$kind${id:+/$id}" "$body"); then
		echo "Consul refuses the $kind $name: $answer" >&2
		exit 1
	fi
}

end=$((SECONDS + 90))
until curl --silent --max-time 5 http://127.0.0.1:8500/v1/status/leader | grep -q '[0-9]'; do
	if [ "$SECONDS" -ge "$end" ]; then
		echo "The Consul servers have not elected a leader: are all of them up, and do they reach each other on ports 8300 to 8302?" >&2
		exit 1
	fi
	sleep 0.2
done

# The token is written down before Consul gets it: none is lost half way.
if [ ! -s "$token_file" ]; then
	(umask 077 && cat /proc/sys/kernel/random/uuid >"$token_file.new" && mv "$token_file.new" "$token_file")
fi
until consul GET acl/token/self >/dev/null 2>&1; do
	answer=$(consul PUT acl/bootstrap "{\"BootstrapSecret\":\"$(cat "$token_file")\"}") && continue
	case $answer in *"no longer allowed"*)
		echo "Another host has bootstrapped Consul's access control: copy its $token_file to this one, the first server now." >&2
		exit 1
		;;
	esac
	if [ "$SECONDS" -ge "$end" ]; then
		echo "Consul cannot bootstrap its access control: $answer" >&2
		exit 1
	fi
	sleep 0.5 # a new leader takes a moment to begin
done

while IFS=$'\t' read -r kind name body; do
	put "$kind" "$name" "$body"
done <"$wanted"
