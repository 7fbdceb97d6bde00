#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Scenarios again and again in the simulated world, each time with another operation failing. FAULTS says
# how many of each kind are tried; more than there are: all.
cd "$(dirname "$0")/../.." || exit 1
sim=$GODWIT_BUILD/godwit-sim
[ -x "$sim" ] || { echo "no simulator in $GODWIT_BUILD"; exit 77; }
exec "$sim" --faults "${FAULTS:-12}" tests/scenario/first_mail.scn tests/scenario/dialogue_errors.scn \
	tests/scenario/first_delivery_crash.scn tests/scenario/retries.scn tests/scenario/aliases.scn \
	tests/scenario/dsn.scn
