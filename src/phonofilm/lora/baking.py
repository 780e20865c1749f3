"""LoRAs baked into a checkpoint: a new folder of the same layout, in which the adapted weights have them in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError
from phonofilm.files import replacing
from phonofilm.lora.adapter import LoraFile
from phonofilm.lora.apply import MergedLoras, Use
from phonofilm.lora.strength import strength_of
from phonofilm.lora.target_layers import check_plain
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.checksums import write_checksums
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.loading import load_components
from phonofilm.models.saving import save_component, update_model_index
from phonofilm.units import format_size, parse_size

ACCOUNT = "merged_loras.json"


def bake(
    layout: CheckpointLayout,
    uses: Sequence[Use],
    out: Path,
    account: Sequence[Mapping[str, str]],
    scalars: Mapping[str, Any] | None = None,
    *,
    max_shard_size: int | str = "5GB",
) -> tuple[str, ...]:
    """Write the checkpoint at `layout` with `uses` merged in to the new folder `out`, whole or not at all.

    Weights keep their dtype; parts that no LoRA changes are copied file by file. One part is in memory at a time.
    The checkpoint's own student of few steps is left out, for it was distilled from the weights from before. `account` says in
    merged_loras.json what went in; `scalars` go into model_index.json. Returns the parts that were changed. Raises InputError
    when `out` exists, cannot be written, nothing would change, or the checkpoint is quantised; CheckpointError when a LoRA does
    not fit.
    """
    parts = [name for name in layout.components if any(_changes(use, name) for use in uses)]
    if not parts:
        raise InputError("these LoRAs change nothing at these strengths; there is nothing to merge")
    if out.exists():
        raise InputError(f"{out} exists already; choose another folder")
    check_plain(layout)
    limit = parse_size(max_shard_size, "max_shard_size")
    _require_space(layout, out)
    with replacing(out, error=InputError) as partial:
        shutil.copytree(layout.folder, partial, ignore=lambda folder, names: _left_out(layout, parts, folder, names))
        for name in parts:
            others = [other for other in (*layout.components, "tokenizer") if other != name]
            module = load_components(layout, None, skip=others)[name]
            own = [Use(_only(use, name), use.strength) for use in uses if name in use.lora.adapters]
            MergedLoras().set({name: module}, own)
            save_component(partial / name, module, limit)
        (partial / ACCOUNT).write_text(json.dumps(list(account), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if scalars:
            update_model_index(partial, scalars)
        read_layout(partial)
        write_checksums(partial)
    return tuple(parts)


def _changes(use: Use, component: str) -> bool:
    return any(strength_of(use.strength, component, path) for path in use.lora.adapters.get(component, {}))


def _only(use: Use, component: str) -> LoraFile:
    return replace(use.lora, adapters={component: use.lora.adapters[component]})


def _left_out(layout: CheckpointLayout, parts: Sequence[str], folder: str, names: Sequence[str]) -> set[str]:
    """At the top folders of parts and files that are written anew, and the own student; everywhere whatever is hidden."""
    at_top = {*parts, ACCOUNT, STUDENT_FILE} if Path(folder) == layout.folder else set()
    return {name for name in names if name.startswith(".") or name in at_top}


def _require_space(layout: CheckpointLayout, out: Path) -> None:
    needed = sum(part.nbytes for part in layout.components.values())
    there = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(f"the checkpoint needs {format_size(needed)}, {there} has {format_size(free)} free")
