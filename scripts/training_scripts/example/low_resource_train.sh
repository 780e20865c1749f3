#!/usr/bin/env bash
# LoRA on one GPU, mode low_resource. DATA: folder of clips with captions; CKPT: checkpoint folder, or 360p, 720p, nano.
# Further settings follow as KEY=VALUE: bash low_resource_train.sh optimizer.lr=2e-4 max_steps=1000
set -euo pipefail

DATA=${DATA:?set DATA to a folder of clips with captions beside them}
CKPT=${CKPT:-360p}
OUTPUT=${OUTPUT:-runs/$(date +%Y%m%d-%H%M%S)}

exec phonofilm train --config low_resource --data "$DATA" --output "$OUTPUT" model="$CKPT" "$@"
