"""`make demo`: one clip with the embedded model from the README's prompt, and a contact sheet beside it."""

from __future__ import annotations

import time
from pathlib import Path

import torch

import phonofilm
from phonofilm.media import contact_sheet
from phonofilm.process.lean_imports import make_imports_lean

PROMPT = 'A red face with a pink bow says "ah" in a high voice.'
FIRST_FRAME = Path(__file__).parents[1] / "examples" / "face.png"
OUTPUT = Path("outputs/demo.mp4")
SEED = 7


def main() -> None:
    began = time.monotonic()
    make_imports_lean()
    torch.set_num_threads(1)  # the model is too small to gain from more, and slow where another core is busy
    print(f"prompt:        {PROMPT}")
    clip = phonofilm.load("nano").generate(PROMPT, image=FIRST_FRAME, seed=SEED)
    OUTPUT.parent.mkdir(exist_ok=True)
    phonofilm.save_clip(clip, OUTPUT)
    sheet = OUTPUT.with_suffix(".png")
    contact_sheet(clip, title=PROMPT).save(sheet)
    print(f"clip:          {OUTPUT.resolve()}")
    print(f"contact sheet: {sheet.resolve()}")
    print(f"made in {time.monotonic() - began:.0f} s; more with: .venv/bin/phonofilm generate --help")


if __name__ == "__main__":
    main()
