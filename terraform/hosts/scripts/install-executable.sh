#!/usr/bin/env bash
# Puts an agent's executable in its place, if it is not there yet.
# Usage: install-executable.sh AGENT SHA256 FILE|URL. The file is one that was
# uploaded, and is used up; what a URL gives may be a zip with the executable in
# it. The SHA-256 is that of the file, or of what the URL gives.
set -euo pipefail
agent=$1 wanted=$2 from=$3
record=/var/lib/lightcone/$agent.sha256

if [ -x "/usr/local/bin/$agent" ] && [ "$(cat "$record" 2>/dev/null)" = "$wanted" ]; then
	case $from in http*) ;; *) rm -f "$from" ;; esac
	exit 0
fi

work=$(mktemp -d "/usr/local/bin/.$agent.XXXXXX") # beside its place: the last step is a rename
trap 'rm -rf "$work"' EXIT
case $from in
http*) curl --fail --silent --show-error --location --retry 3 --max-time 240 --output "$work/got" "$from" ;;
*) mv "$from" "$work/got" ;;
esac
found=$(sha256sum "$work/got" | cut -d ' ' -f 1)
if [ "$found" != "$wanted" ]; then
	echo "The SHA-256 of $from is $found, not $wanted: it is not the $agent that was asked for, so it was not installed." >&2
	exit 1
fi
case $from in
http*.zip)
	unzip -q -o "$work/got" "$agent" -d "$work"
	;;
*) mv "$work/got" "$work/$agent" ;;
esac
chown root:root "$work/$agent"
chmod 755 "$work/$agent"
mv -f "$work/$agent" "/usr/local/bin/$agent"
echo "$wanted" >"$record"
