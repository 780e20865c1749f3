"""LoRAs merged into a new checkpoint, which then says by itself how it is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phonofilm.generation.few_step_students import few_steps_of, weakened_students
from phonofilm.generation.loras import LoraFiles, LoraUse
from phonofilm.lora.apply import Use
from phonofilm.lora.baking import bake
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.hub import resolve_model
from phonofilm.models.layout import read_layout
from phonofilm.pipeline.few_steps import FewSteps, index_entries


def merge_loras(model: str, loras: Sequence[str], output: Path, max_shard_size: str) -> str:
    """Write a checkpoint with LoRAs, given as for `generate`, baked in, as `bake` does; says what went where.

    A distilled LoRA's settings go into model_index.json. The checkpoint's own student is left out: it was distilled from
    other weights than the new ones. Raises InputError and CheckpointError as `LoraFiles.take` and `bake`.
    """
    layout = read_layout(resolve_model(model))
    files = LoraFiles(layout)
    taken = files.take(loras)
    few = few_steps_of(taken)
    entries = {} if few is None else index_entries(few, layout.scalars.defaults or {})
    account = [use.metadata() for use in taken]
    uses = [Use(use.lora, use.strength) for use in taken]
    parts = bake(layout, uses, output, account, entries, max_shard_size=max_shard_size)
    line = f"{output}: {', '.join(use.summary for use in taken)} merged into {', '.join(parts)}"
    return "\n".join([line, *_few_steps_said(few, taken), *_student_said(files, taken)])


def _few_steps_said(few: FewSteps | None, taken: Sequence[LoraUse]) -> list[str]:
    if few is None:
        return []
    return [f"it is sampled in {few.steps} distilled steps, as its model_index.json says", *weakened_students(taken)]


def _student_said(files: LoraFiles, taken: Sequence[LoraUse]) -> list[str]:
    """What becomes of the checkpoint's own student."""
    if files.student_file is None or any(use.own for use in taken):
        return []
    return [
        f"without {STUDENT_FILE} of {files.layout.folder.name}, which was distilled from other weights than these; to have "
        "its few steps too, merge few-steps with the others"
    ]
