# Starts godwit for a side-by-side benchmark. Sourced by the harness with MODE (hold, relay, maildir, idle, deep, tls),
# PORT, RUN (scratch directory), MAILDIR, USERS, CONC and PROJECT (this checkout) set; see docs/benchmarks.md.
# Builds into $PROJECT/build unless GODWIT_BUILD names a finished build.
peer_start() {
	local build=${GODWIT_BUILD:-$PROJECT/build} deliver=yes processes=0 i users="" tls="" mode=none
	if [ ! -x "$build/godwit" ]; then
		meson setup --buildtype=release "$build" "$PROJECT" >"$RUN/build.log" 2>&1
		ninja -C "$build" >>"$RUN/build.log" 2>&1 || { cat "$RUN/build.log"; return 1; }
	fi
	case "$MODE" in
	hold) deliver=no ;;
	idle) deliver=no processes=1 ;;
	tls) mode=starttls tls="tls { certificate $CERT; key $KEY; }" ;;
	esac
	cat >"$RUN/godwit.conf" <<-CONF
		hostname bench.test;
		directory "$RUN";
		deliver $deliver;
		smtpd_processes $processes;
		relay_from 127.0.0.0/8;
		log_level warning;
		listen smtp { address 127.0.0.1:$PORT; tls $mode; }
		$tls
		domain local.test { }
		route sink { to sink.test; via smtp 127.0.0.1:${SINK:-25}; connections 100; }
		route dead { to dead.test; via smtp 127.0.0.1:${DEAD:-25}; connections 100; }
		limits { connections $((CONC + 1000)); connections_per_client $((CONC + 1000)); transactions 100000000; queue_free_space 64M; }
	CONF
	chmod 711 "$RUN"
	for ((i = 0; i < ${USERS:-0}; i++)); do users="$users user$i@local.test"; done
	[ -z "$users" ] || "$build/godwit" account add -c "$RUN/godwit.conf" $users >"$RUN/accounts.log" || return 1
	"$build/godwit" serve -c "$RUN/godwit.conf" >>"$RUN/log" 2>&1 &
}
