#!/usr/bin/env bash
# N processes of one run on this machine:
#
#   launch/local.sh 2 python -m jaxhw.main --config=configs/vit.py --workdir=runs/vit
#
# Ctrl-C or SIGTERM saves and stops them all; the same command continues. Where one is lost (exit code 75 of the others)
# all are started again, at most RESTARTS times (10).
set -euo pipefail
(($# >= 2)) || { echo "usage: launch/local.sh N COMMAND..." >&2; exit 2; }

count=$1 stopping=
shift
export JAX_NUM_PROCESSES=$count

start() {
  export JAX_COORDINATOR_ADDRESS=127.0.0.1:$((20000 + RANDOM % 12000))  # below the ports that Linux gives to connections
  pids=()
  for ((i = 0; i < count; i++)); do
    JAX_PROCESS_ID=$i "$@" &
    pids+=($!)
  done
}

trap 'stopping=yes; kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT HUP

# The exit code of a process; a signal that the trap has caught interrupts `wait`, not the process.
code_of() {
  code=0
  wait "$1" || code=$?
  while kill -0 "$1" 2>/dev/null; do
    code=0
    wait "$1" || code=$?
  done
}

for ((run = 0; run <= ${RESTARTS:-10}; run++)); do
  start "$@"
  result=0
  for pid in "${pids[@]}"; do
    code_of "$pid"
    ((code == 75 || result == 0)) && result=$code
  done
  [[ $result == 75 && -z $stopping ]] || exit "$result"
  echo "launch/local.sh: a process was lost; all start again" >&2
done
exit 75
