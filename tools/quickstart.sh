#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# tools/quickstart.sh BUILDDIR
#
# Starts two servers of a build directory in a temporary directory and on unprivileged loopback
# ports, submits two messages to the first with curl, encrypted and with a password, one for a
# mailbox there and one that it relays to the second, and shows where they went. Nothing outside the temporary directory is touched;
# KEEP=1 leaves it in place.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1/godwit" ]; then
	echo "usage: tools/quickstart.sh BUILDDIR   (with a godwit in it)" >&2
	exit 64
fi
godwit=$(cd "$1" && pwd)/godwit
port=${PORT:-2525}
port2=${PORT2:-$((port + 1))}
submission=${PORT3:-$((port + 2))}

base=$(mktemp -d "${TMPDIR:-/tmp}/godwit-quickstart.XXXXXX")
chmod 711 "$base" # started as root, the processes change to users of their own
one=$base/one
two=$base/two
mkdir "$one" "$two"
chmod 711 "$one" "$two"
server1=
server2=

clean_up() {
	status=$?
	trap - EXIT INT TERM
	for server in $server1 $server2; do
		if kill -0 "$server" 2>/dev/null; then
			kill "$server"
			wait "$server" || true
		fi
	done
	if [ $status -ne 0 ]; then
		for log in "$one/log" "$two/log"; do
			[ -s "$log" ] || continue
			echo "--- $log" >&2
			cat "$log" >&2
		done
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
		for server in $server1 $server2; do
			if ! kill -0 "$server" 2>/dev/null; then
				echo "a server ended while waiting for $what" >&2
				return 1
			fi
		done
		sleep 0.1
	done
}

greets() {
	curl -s -m 2 "smtp://127.0.0.1:$1" -X NOOP >/dev/null 2>&1
}

delivered() {
	file=$(find "$1/mail" -path '*/new/*' -type f 2>/dev/null | head -n 1)
	[ -n "$file" ]
}

step "two servers: example.org sends its mail for example.com to the second"
cat >"$one/godwit.conf" <<EOF
hostname mx.example.org;
directory "$one";
listen smtp        { address 127.0.0.1:$port; }
domain example.org { subaddress "+"; }
listen submission  { address 127.0.0.1:$submission; tls implicit; auth required; }
route partner      { to example.com; via smtp 127.0.0.1:$port2; }
EOF
cat >"$two/godwit.conf" <<EOF
hostname mx.example.com;
directory "$two";
listen smtp        { address 127.0.0.1:$port2; }
domain example.com { }
EOF
for server in "$one" "$two"; do
	echo "--- $server/godwit.conf"
	cat "$server/godwit.conf"
	"$godwit" check -c "$server/godwit.conf"
done
"$godwit" serve -c "$one/godwit.conf" >"$one/log" 2>&1 &
server1=$!
"$godwit" serve -c "$two/godwit.conf" >"$two/log" 2>&1 &
server2=$!
wait_for 15 "the first server's greeting" greets "$port"
wait_for 15 "the second server's greeting" greets "$port2"
echo "listening on 127.0.0.1:$port and 127.0.0.1:$port2"

step "an account on each, and a password for Alice's: a line of standard input, never an argument"
"$godwit" account add -c "$one/godwit.conf" alice@example.org
"$godwit" account add -c "$two/godwit.conf" bob@example.com
password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
echo "$password" | "$godwit" account passwd -c "$one/godwit.conf" alice@example.org

step "what will happen to mail for bob@example.com: godwit explain"
"$godwit" explain -c "$one/godwit.conf" --account alice@example.org --to bob@example.com

step "two messages, submitted by curl over TLS with that password"
# send NAME ADDRESS MESSAGE-ID
send() {
	printf '%s\r\n' 'From: Alice <alice@example.org>' "To: $1 <$2>" 'Subject: It works' \
		"Date: $(LC_ALL=C date '+%a, %d %b %Y %H:%M:%S %z')" "Message-ID: <$3>" '' "Hello $1." >"$base/message.eml"
	# --insecure: the server made its certificate itself. The password is read from a file: arguments are seen by all.
	printf 'user = "alice@example.org:%s"\n' "$password" >"$base/curlrc"
	curl -sS -m 20 --insecure -K "$base/curlrc" "smtps://127.0.0.1:$submission/client.example.org" \
		--mail-from alice@example.org --mail-rcpt "$2" --upload-file "$base/message.eml"
	echo "accepted for $2"
}
send Alice alice@example.org local@example.org
send Bob bob@example.com relayed@example.org

step "the first is in Alice's Maildir"
wait_for 15 "the delivery" delivered "$one"
echo "$file"
echo
cat "$file"

step "the second went over SMTP, and is in Bob's"
wait_for 15 "the relayed message" delivered "$two"
echo "$file"
echo
cat "$file"

step "what the first server did with both: godwit trace"
told() {
	"$godwit" trace -c "$one/godwit.conf" relayed@example.org | grep -q ' relayed '
}
wait_for 15 "the first server's word on it" told
"$godwit" trace -c "$one/godwit.conf" local@example.org
"$godwit" trace -c "$one/godwit.conf" relayed@example.org

step "and the second, which received one of them"
"$godwit" trace -c "$two/godwit.conf" relayed@example.org

step "stop"
"$godwit" stop -c "$one/godwit.conf"
"$godwit" stop -c "$two/godwit.conf"
wait "$server1" "$server2"
server1=
server2=
echo "That was the whole way: encrypted submission with a password, the queue on disk, a relay, a second server, a mailbox,"
echo "and an answer to 'what happened to it?' on both."
