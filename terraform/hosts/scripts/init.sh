# Starts, stops and asks after an agent, under systemd or under nothing at all.
# Sourced by the other scripts, which set init=systemd|none. Without systemd an
# agent has a session of its own, /run/lightcone/AGENT.pid and
# /var/log/lightcone/AGENT.log, and nobody who starts it again.

# pid_of prints the process of an agent that runs without systemd.
pid_of() {
	local pid
	pid=$(cat "/run/lightcone/$1.pid" 2>/dev/null) || return 1
	[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return 1 # the number may be another's by now
	# One that has ended, and that nobody has asked about, does not run.
	grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null || return 1
	echo "$pid"
}

running() {
	case $init in
	systemd) systemctl --quiet is-active "$1.service" ;;
	none) pid_of "$1" >/dev/null ;;
	esac
}

# interrupt_agent has the agent leave its cluster, and waits for its end for at
# most $2 seconds. Under systemd, stop_agent must follow within RestartSec.
interrupt_agent() {
	case $init in
	systemd) systemctl kill --kill-who=main --signal=INT "$1.service" ;;
	none) kill -INT "$(pid_of "$1")" 2>/dev/null || true ;; # it may have ended by itself just now
	esac
	wait_for_end "$1" "$2"
}

# wait_for_end waits for at most $2 seconds.
wait_for_end() {
	local end=$((SECONDS + $2))
	while running "$1"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

stop_agent() {
	local pid
	case $init in
	systemd) systemctl stop "$1.service" 2>/dev/null || [ ! -e "/etc/systemd/system/$1.service" ] ;;
	none)
		pid=$(pid_of "$1") || return 0
		kill -TERM "$pid" 2>/dev/null || true # it may have ended by itself just now
		wait_for_end "$1" 30 || kill -KILL "$pid" 2>/dev/null || true
		rm -f "/run/lightcone/$1.pid"
		;;
	esac
}

# start_agent starts agent $1 as user $2.
start_agent() {
	local arguments
	case $init in
	systemd)
		systemctl daemon-reload
		systemctl enable --quiet "$1.service"
		systemctl restart "$1.service"
		;;
	none)
		case $1 in
		consul) arguments=(agent -config-dir=/etc/consul.d) ;;
		nomad) arguments=(agent -config=/etc/nomad.d) ;;
		esac
		install -d -m 755 /run/lightcone /var/log/lightcone
		ulimit -n "$(ulimit -H -n)" # as many files as this host allows
		# Without job control, a background process is not its group's first: so
		# setsid need not fork, and the number is the agent's own.
		setsid env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			setpriv --reuid="$2" --regid="$2" --init-groups "/usr/local/bin/$1" "${arguments[@]}" \
			</dev/null >>"/var/log/lightcone/$1.log" 2>&1 &
		echo $! >"/run/lightcone/$1.pid"
		until pid_of "$1" >/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.05; done # until it has its name
		;;
	esac
}

# said_last prints an agent's last words, for whoever asks why it fails.
said_last() {
	case $init in
	systemd) journalctl --no-pager --lines=15 --unit="$1.service" ;;
	none) tail -n 15 "/var/log/lightcone/$1.log" ;;
	esac >&2
}
