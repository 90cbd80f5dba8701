#!/usr/bin/env bash
# Makes a host ready for the agents: Debian packages, users, folders.
# Usage: prepare.sh INIT [PACKAGE...]. Does only what is missing.
set -euo pipefail
init=$1
shift

missing=()
for package in "$@"; do
	[ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	export DEBIAN_FRONTEND=noninteractive
	apt=(apt-get -q -y -o DPkg::Lock::Timeout=120)
	"${apt[@]}" update
	"${apt[@]}" install --no-install-recommends "${missing[@]}"
fi
# Nomad runs HAProxy and Redis; Debian's own units would run others, with nothing to do.
for package in haproxy redis-server; do
	if [ "$init" = systemd ] && [[ " ${missing[*]} " = *" $package "* ]]; then
		systemctl disable --now "$package.service"
	fi
done

for user in consul nomad; do
	id "$user" >/dev/null 2>&1 || useradd --system --user-group --no-create-home --home-dir "/var/lib/$user" --shell /usr/sbin/nologin "$user"
	install -d -m 750 -o root -g "$user" "/etc/$user.d"
	[ -d "/var/lib/$user" ] || install -d -m 750 -o "$user" -g "$user" "/var/lib/$user"
done
install -d -m 700 /etc/lightcone /var/lib/lightcone
install -d -m 1777 /var/lib/lightcone/usage # jobs run as nobody
