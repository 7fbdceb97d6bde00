#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/quickstart.sh BUILDDIR
#
# Starts the server of a build directory in a temporary directory and on unprivileged loopback
# ports, sends one message to it with curl, and shows where it went. Nothing outside the
# temporary directory is touched; KEEP=1 leaves it in place.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1/godwit" ]; then
	echo "usage: tools/quickstart.sh BUILDDIR   (with a godwit in it)" >&2
	exit 64
fi
godwit=$(cd "$1" && pwd)/godwit
port=${PORT:-2525}

base=$(mktemp -d "${TMPDIR:-/tmp}/godwit-quickstart.XXXXXX")
chmod 711 "$base" # started as root, the processes change to users of their own
conf=$base/godwit.conf
log=$base/godwit.log
server=

clean_up() {
	status=$?
	trap - EXIT INT TERM
	if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
		kill "$server"
		wait "$server" || true
	fi
	if [ $status -ne 0 ] && [ -s "$log" ]; then
		echo "--- the server's log" >&2
		cat "$log" >&2
	fi
	[ -n "${KEEP-}" ] || rm -rf "$base"
	exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

step() {
	printf '\n== %s\n' "$*"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds
wait_for() {
	tries=$(($1 * 10))
	what=$2
	shift 2
	until "$@"; do
		tries=$((tries - 1))
		if [ $tries -le 0 ]; then
			echo "gave up waiting for $what" >&2
			return 1
		fi
		if ! kill -0 "$server" 2>/dev/null; then
			echo "the server ended while waiting for $what" >&2
			return 1
		fi
		sleep 0.1
	done
}

step "a configuration: $conf"
cat >"$conf" <<EOF
hostname mx.example.org;
directory "$base";
listen smtp        { address 127.0.0.1:$port; }
domain example.org { accounts sqlite; mailbox maildir; subaddress "+"; }
EOF
cat "$conf"
"$godwit" check -c "$conf"

step "the server"
"$godwit" serve -c "$conf" >"$log" 2>&1 &
server=$!
greets() {
	curl -s -m 2 "smtp://127.0.0.1:$port" -X NOOP >/dev/null 2>&1
}
wait_for 15 "the server's greeting" greets
echo "listening on 127.0.0.1:$port"

step "an account: alice@example.org"
"$godwit" account add -c "$conf" alice@example.org

step "a message, sent by curl"
printf '%s\r\n' 'From: Bob <bob@example.net>' 'To: Alice <alice@example.org>' \
	'Subject: It works' "Date: $(LC_ALL=C date '+%a, %d %b %Y %H:%M:%S %z')" \
	'Message-ID: <quickstart@example.net>' '' 'Hello Alice.' >"$base/message.eml"
curl -sS -m 20 "smtp://127.0.0.1:$port/client.example.net" \
	--mail-from bob@example.net --mail-rcpt alice@example.org --upload-file "$base/message.eml"
echo "accepted"

step "the message in the Maildir"
delivered() {
	file=$(find "$base" -path '*/new/*' -type f | head -n 1)
	[ -n "$file" ]
}
wait_for 15 "the delivery" delivered
echo "$file"
echo
cat "$file"

step "what the server did with it: godwit trace"
"$godwit" trace -c "$conf" quickstart@example.net

step "stop"
"$godwit" stop -c "$conf"
wait "$server"
server=
echo "That was the whole way: SMTP, the queue on disk, a mailbox, and an answer to 'what happened to it?'."
