#!/bin/bash
# Runs a command with a one-node Slurm on this machine, whose files are in a separate folder:
#   unshare --pid --mount --fork --mount-proc --kill-child bash one_node_slurm.sh FOLDER COMMAND…
# The process namespace is separate, so that `ray stop` in a job ends only the Ray of this job, and no process is left over.
# /tmp/ray is separate, too.
set -euo pipefail
folder=$1; shift
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray

mkdir -p "$folder"/{state,spool,munge}
chmod 700 "$folder/munge"
head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 400 "$folder/munge/key"
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
  --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"

name=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf
cat > "$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmctldPort=$SLURMCTLD_PORT
SlurmdPort=$SLURMD_PORT
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/affinity
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
NodeName=$name NodeAddr=127.0.0.1 CPUs=${SLURM_TEST_CPUS:-2} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld -D > "$folder/slurmctld.out" 2>&1 &
slurmd -D > "$folder/slurmd.out" 2>&1 &
for _ in $(seq 60); do
  if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi
  sleep 0.5
done
sinfo -h -o %T | grep -q idle
"$@"
