#!/usr/bin/env bash
#SBATCH --job-name=lcr-audit
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=lcr-audit-%A-%a.log
# Many adapters on a cluster: a task of the array takes a share.
#
#   export BASE=models/Qwen3-4B ADAPTERS=adapters OUT=fleet SHARDS=8
#   array=$(sbatch --parsable examples/fleet/slurm.sh)
#   sbatch --dependency="afterany:$array" --wrap 'lcr-audit merge "$OUT"/shards/* --out "$OUT/merged"'
#
# SHARDS is the number of tasks of the whole array, also where only some of them are submitted again (`--array=3,7`):
# these go on where they were stopped, and so does a task that is requeued.
set -euo pipefail

index="$SLURM_ARRAY_TASK_ID"
code=0
lcr-audit batch "$BASE" "$ADAPTERS" --out "$OUT/shards/$index" --shard "$index/${SHARDS:-8}" \
  --threads "${SLURM_CPUS_PER_TASK:-1}" --quiet || code=$?
# Findings, 1, are a result and no failed task; `merge` counts them.
if [ "$code" -eq 1 ]; then code=0; fi
exit "$code"
