"""The student's stage of the recipe: the finished checkpoint distilled to few steps, its LoRA put beside the weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from phonofilm.files import replacing
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.training.config.config_files import read_config
from phonofilm.training.finetune import finetune, open_run, prepare_finetune
from recipes.nano.world_bank import World


@dataclass(frozen=True)
class StudentConfig:
    """How many of the world's clips lend their captions and first frames, how long it learns, settings over `distill_nano`'s.

    Without `budget_seconds` the settings say when it ends.
    """

    captions: int = 1024
    budget_seconds: float | None = None
    settings: tuple[str, ...] = ()


def train_student(config: StudentConfig, checkpoint: Path, world: World, run_dir: Path) -> Path | None:
    """Distil `checkpoint` in `run_dir`, or go on; the student's file in it, None if interrupted."""
    student = checkpoint / STUDENT_FILE
    if student.exists():
        return student
    captions = _write_captions(world, min(config.captions, world.config.clips), run_dir / "captions")
    end = () if config.budget_seconds is None else (f"budget_seconds={config.budget_seconds}", "max_steps=null")
    where = (f"model={checkpoint}", f"distill.captions={captions}")
    settings = read_config("distill_nano", (*end, *config.settings, *where))
    output = run_dir / "run"
    with open_run(settings, output, resume=True) as goes_on:
        made = finetune(prepare_finetune(settings, output), output, resume=goes_on)
    if made.run.reason != "finished" or made.result is None:
        return None
    with replacing(student) as temporary:
        shutil.copyfile(made.result, temporary)
    return student


def _write_captions(world: World, count: int, folder: Path) -> Path:
    """Captions with first frames, as `distill.captions` takes them: the file's path."""
    captions = folder / "captions.jsonl"
    if not folder.exists():
        with replacing(folder) as temporary:
            temporary.mkdir()
            lines = []
            for row in range(count):
                (clip,) = world.clips(range(row, row + 1))
                Image.fromarray(clip.frames[0]).save(temporary / f"{row:05d}.png")
                lines.append(json.dumps({"caption": clip.caption, "image": f"{row:05d}.png"}))
            (temporary / captions.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return captions
