#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Random mail with crashes at random calls, and the scenarios with crashes under many seeds.
cd "$(dirname "$0")/../.." || exit 1
sim=$GODWIT_BUILD/godwit-sim
[ -x "$sim" ] || { echo "no simulator in $GODWIT_BUILD"; exit 77; }
"$sim" --random "${SEEDS:-12}" --crashes 8 || exit 1
exec "$sim" --seeds "${SEEDS:-12}" tests/scenario/*crash*.scn tests/scenario/disk_full.scn \
	tests/scenario/sync_failures_under_load.scn tests/scenario/memory.scn
