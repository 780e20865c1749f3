#!/usr/bin/env bash
# LoRA on several GPUs (GPUS, by default 8) that share one copy of the weights. DATA, CKPT, OUTPUT as in accelerate_train.sh.
set -euo pipefail

DATA=${DATA:?set DATA to a folder of clips with captions beside them}
CKPT=${CKPT:-360p}
OUTPUT=${OUTPUT:-runs/$(date +%Y%m%d-%H%M%S)}

exec phonofilm train --gpus "${GPUS:-8}" --config "${CONFIG:-fsdp}" --data "$DATA" --output "$OUTPUT" model="$CKPT" "$@"
