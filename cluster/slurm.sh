#!/bin/bash
# Runs a command on a Ray cluster that is started on the nodes of a Slurm job:
#   sbatch cluster/slurm.sh train jobs/meld.yaml --name meld --set corpus=… --set storage=…
# The same line continues the run. Edit the lines with CHANGE. Corpus and storage must be in a bucket or in a folder
# that all nodes share.
#SBATCH --job-name=joyful
#SBATCH --nodes=2               # CHANGE: number of machines
#SBATCH --ntasks-per-node=1     # one Ray node per machine
#SBATCH --cpus-per-task=8       # CHANGE: cores per machine
##SBATCH --gpus-per-node=1      # CHANGE: remove one # if the machines have GPUs
#SBATCH --time=04:00:00         # CHANGE: time limit; training stops with a checkpoint ten minutes earlier
#SBATCH --exclusive             # because `ray symmetric-run` ends all of your Ray processes on the machine
#SBATCH --output=joyful-%j.log
set -euo pipefail

# CHANGE: the environment with joyful, at the same path on all nodes; it has Ray 2.60.0, as in the lock file
source "${JOYFUL_VENV:-$HOME/joyful/.venv}/bin/activate"
joyful=(python -m joyful_ray)

# Credentials of the bucket: lines `export AWS_…=…` in a file that only you can read.
storage_file=${JOYFUL_STORAGE_ENV:-$HOME/.joyful-storage}
if [ -f "$storage_file" ]; then
  set -a; source "$storage_file"; set +a
fi

# Only processes of this job can connect to its Ray cluster.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
# Seconds that Ray may take to start on busy machines and slow shared file systems.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 RAY_raylet_start_wait_time_s=120
# Since Slurm 22.05, srun does not take this from sbatch: without it, all of Ray would be bound to one core.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | awk '{print $1}')
address=$head_ip:$((20000 + SLURM_JOB_ID % 10000))

command=("$@")
ends=$(date -d "$(squeue -h -j "$SLURM_JOB_ID" -o %e)" +%s 2>/dev/null || true)
if [ "${1:-}" = train ] && [ -n "$ends" ]; then
  hours=$(awk -v left=$((ends - $(date +%s) - 600)) 'BEGIN { printf "%.3f", (left > 60 ? left : 60) / 3600 }')
  command+=(--max-hours "$hours")
fi

ray_options=(--num-cpus="$SLURM_CPUS_PER_TASK" --dashboard-port=$((30000 + SLURM_JOB_ID % 10000)) --disable-usage-stats)
if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then
  ray_options+=(--num-gpus="$SLURM_GPUS_ON_NODE")
fi

# `ray symmetric-run` ends with status 0 even if Ray did not start, so the exit status of the command is kept in a file.
ended=$(mktemp)
trap 'rm -f "$ended"' EXIT

# With RAY_ADDRESS, the command joins this cluster instead of starting a local one.
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_NNODES" "${ray_options[@]}" \
  -- env RAY_ADDRESS="$address" sh -c '"$@"; status=$?; echo $status > "$0"; exit $status' "$ended" \
  "${joyful[@]}" "${command[@]}" || true
if [ ! -s "$ended" ]; then
  echo "joyful: Ray did not start on these nodes; see the messages above" >&2
  exit 1
fi
exit "$(cat "$ended")"
