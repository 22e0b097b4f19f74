#!/usr/bin/env bash
# A run on Cloud TPU VMs, from nothing to nothing, one word a step:
#
#   export NAME=jaxhw ZONE=us-central1-a TYPE=v5litepod-16 BUCKET=my-bucket
#   launch/tpu_vm.sh create                  # a slice of TPU VMs (SPOT=yes: a third of the price, may be preempted)
#   launch/tpu_vm.sh install                 # Python, jaxhw, and the bucket as ~/bucket, on every worker
#   launch/tpu_vm.sh run python -m jaxhw.main --config=configs/vit.py --workdir='~/bucket/runs/vit'
#   launch/tpu_vm.sh keep python -m ...      # run, and after each preemption create, install and run again
#   launch/tpu_vm.sh stop                    # SIGTERM: saves, then stops; the same run or keep continues
#   launch/tpu_vm.sh delete                  # what exists costs money, running or not
#
# --dry-run as the first argument prints the commands instead.
set -euo pipefail

REPO=${REPO:-https://github.com/jaxhw/jaxhw}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}  # of the VM's system; `gcloud compute tpus versions list`
POLL=${POLL:-60}

dry=
[[ ${1:-} != --dry-run ]] || { dry=yes; shift; }
step=${1:-}
shift || true

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[[ $step =~ ^(create|install|run|keep|stop|delete)$ ]] || usage
[[ $step != run && $step != keep || $# -gt 0 ]] || usage
: "${NAME:?the name of the TPU}" "${ZONE:?such as us-central1-a}"

# Runs a command, or prints it so that a shell would take it back.
do_() { if [[ $dry ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

tpu() { do_ gcloud compute tpus tpu-vm "$@" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"}; }
on_all() { tpu ssh "$NAME" --worker=all --command="$1"; }
state() { gcloud compute tpus tpu-vm describe "$NAME" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"} --format='value(state)' 2>/dev/null || true; }

create() { tpu create "$NAME" --accelerator-type="${TYPE:?such as v5litepod-16}" --version="$VERSION" ${SPOT:+--spot}; }
delete() { tpu delete "$NAME" --quiet; }

install() {
  on_all "set -e; [ -d jaxhw ] || git clone --quiet $REPO jaxhw
    python3 -m venv venv && venv/bin/pip install --quiet -e 'jaxhw[tpu]'
    mkdir -p bucket && { mountpoint -q bucket || gcsfuse --implicit-dirs ${BUCKET:?a bucket for workdirs and data} bucket; }"
}

# JAX finds the other workers through the VM's metadata; each worker runs the same command.
run() { on_all "cd jaxhw && PATH=\$HOME/venv/bin:\$PATH && exec $(printf '%q ' "$@")"; }
stop() { on_all "pkill -TERM -f 'jaxhw[.]main' || true"; }

keep() {
  if [[ $dry ]]; then run "$@" && delete && create && install && run "$@"; return; fi
  until run "$@"; do
    code=$?
    ((code != 2)) || return 2  # bad input: another try would say the same
    [[ $(state) == READY ]] && { sleep "$POLL"; continue; }
    delete || true
    until create; do sleep "$POLL"; done
    install
  done
}

"$step" "$@"
