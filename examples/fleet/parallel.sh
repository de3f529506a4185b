#!/usr/bin/env bash
# Many adapters on one machine: SHARDS shares, JOBS at a time, then one report over all.
#
#   SHARDS=8 JOBS=2 examples/fleet/parallel.sh BASE ADAPTERS OUT [options of `lcr-audit batch`]
#
# Started again it goes on where it stopped. GNU parallel runs the shares where it is installed, xargs otherwise. One
# process uses all cores by itself: JOBS above 1 pays where the model is small, and drawing reports takes its share.
# POLICY names a policy other than ./lcr-audit.toml.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "usage: parallel.sh BASE ADAPTERS OUT [options of lcr-audit batch]" >&2
  exit 3
fi
base="$1" adapters="$2" out="$3"
shift 3
lcr_audit="${LCR_AUDIT:-lcr-audit}"
shards="${SHARDS:-4}"
jobs="${JOBS:-2}"
# `merge` needs it too.
policy=()
if [ -n "${POLICY:-}" ]; then policy=(--policy "$POLICY"); fi

share=("$lcr_audit" batch --quiet ${policy[@]+"${policy[@]}"} --out "$out/shards/{}" --shard "{}/$shards" "$@"
  -- "$base" "$adapters")
# A share with findings ends with 1 and must not stop the others; whether all have their results, `merge` finds out.
if parallel --version 2> /dev/null | grep -q 'GNU parallel'; then
  seq "$shards" | parallel --quote --jobs "$jobs" "${share[@]}" > /dev/null || true
else
  seq "$shards" | xargs -P "$jobs" -I '{}' "${share[@]}" > /dev/null || true
fi

folders=()
for index in $(seq "$shards"); do folders+=("$out/shards/$index"); done
exec "$lcr_audit" merge "${folders[@]}" ${policy[@]+"${policy[@]}"} --out "$out/merged" --write "sarif=$out/fleet.sarif"
