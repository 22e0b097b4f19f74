#!/usr/bin/env bash
# N processes of one run, started by Open MPI on this machine or on those of HOSTFILE ("node1 slots=1", one a line):
#
#   HOSTFILE=hosts launch/mpi.sh 4 python -m jaxhw.main --config=configs/vit.py --workdir=/shared/runs/vit
#
# MPI only starts the processes; what they tell each other goes through JAX. SIGTERM or Ctrl-C saves and stops them all.
# Where one is lost all are started again, at most RESTARTS times (10).
set -euo pipefail
(($# >= 2)) || { echo "usage: [HOSTFILE=FILE] launch/mpi.sh N COMMAND..." >&2; exit 2; }

count=$1 stopping=
shift
options=(-n "$count" --bind-to none)
[[ -z ${HOSTFILE:-} ]] || options+=(--hostfile "$HOSTFILE")

# mpirun passes SIGUSR1 on to all processes, on all machines; at SIGTERM it would give them a second.
trap 'stopping=yes; kill -USR1 "$pid" 2>/dev/null || true' TERM INT HUP

for ((run = 0; run <= ${RESTARTS:-10}; run++)); do
  mpirun "${options[@]}" "$@" &
  pid=$! code=0
  wait "$pid" || code=$?
  while kill -0 "$pid" 2>/dev/null; do  # the trap has interrupted `wait`, not mpirun
    code=0
    wait "$pid" || code=$?
  done
  # mpirun ends the others as soon as one is killed (128 and more) or finds another lost (75).
  [[ -z $stopping ]] && ((code == 75 || code > 128)) || exit "$code"
  echo "launch/mpi.sh: a process was lost; all start again" >&2
done
exit "$code"
