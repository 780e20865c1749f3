#!/usr/bin/env bash
# Runs docs/tutorial.md from its first to its last step and puts its pictures into docs/images.
#   bash scripts/tutorial.sh [WORK_FOLDER] [MODEL]
# A second call goes on where the first one stopped. The figures are in WORK_FOLDER/learned/learned.md.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-tutorial-run}
model=${2:-nano}
mkdir -p "$work"
cd "$work"

[ -e clips/metadata.json ] || phonofilm nano world -o clips -n 20 --scene owl
[ -e others/metadata.json ] || phonofilm nano world -o others -n 60 --seed 20000
phonofilm data doctor clips
time phonofilm train --config "$root/examples/owl.yaml" --output run --resume model="$model" device=cpu
phonofilm data show run/cache --count 1 --model "$model" -o shown --device cpu
time phonofilm nano learned --lora run/lora.safetensors --trained-on clips --model "$model" --first-frame -o learned --device cpu

cp run/curves.png "$root/docs/images/tutorial-curves.png"
cp learned/before-after-1.png "$root/docs/images/tutorial-before-after.png"
python - "$root/docs/images" shown <<'PYTHON'
import sys
from pathlib import Path
images, shown = map(Path, sys.argv[1:])
first = sorted(shown.rglob("*.png"))[0]
(images / "tutorial-clip.png").write_bytes(first.read_bytes())
PYTHON
