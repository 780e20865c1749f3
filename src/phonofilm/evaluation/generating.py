"""Making the clips that are then evaluated: a prompt file's sets under several settings, the same seeds under each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.evaluation.prompt_items import PromptItem, choose_sets, read_prompt_items
from phonofilm.generation.batch import PlannedLine, is_done, make_lines, plan_lines
from phonofilm.generation.checkpoint import open_checkpoint
from phonofilm.generation.options import ClipOptions, options_from_json
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.generation.preflight import choose_outputs_of
from phonofilm.generation.prompt_file import Line
from phonofilm.generation.report import Message, OnProgress, emit
from phonofilm.generation.session import Session
from phonofilm.units import counted
from phonofilm.untrusted import shown

CLIPS_FOLDER = "clips"
MOST_BYTES = 200  # of a name; with its suffix and a temporary name's marks, systems take 255


@dataclass(frozen=True)
class Setting:
    """A name for a setting, and the options of a clip that it sets."""

    name: str
    options: ClipOptions


def shipped_prompts() -> Path:
    """The small prompt file that comes with the package: nano (the embedded model's world), speech, events, music."""
    return Path(str(resources.files("phonofilm.evaluation") / "page" / "prompts.json"))


def parse_setting(text: str) -> Setting:
    """ "dual:modality_scale=3.5,steps=8" -> its name and options, in the words of a line of `generate --prompts FILE.jsonl`.

    Raises InputError for an option that does not exist, or a value of another kind.
    """
    name, _, rest = text.partition(":")
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"setting {text!r} has no name; write NAME:option=value,option=value")
    values: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"setting {name}: {part!r} is no option; write option=value, for example steps=8")
        values[key.strip().replace("-", "_")] = _value(value.strip())
    return Setting(name, options_from_json(values, f"setting {name}"))


def generate_clips(
    model: str,
    device: str,
    items: Sequence[PromptItem],
    prompt_file: Path,
    settings: Sequence[Setting],
    folder: Path,
    seed: int,
    on_progress: OnProgress,
) -> Mapping[str, Path]:
    """Make FOLDER/clips/SETTING/CATEGORY/ID.mp4 for every item and setting; clips that are there are not made again.

    Item i has seed + i under every setting, so that clips can be compared pair by pair. Returns each setting's folder.
    Raises PhonofilmError when clips could not be made, after all others are.
    """
    twice = {one.name for one in settings if sum(other.name == one.name for other in settings) > 1}
    if twice:
        raise InputError(f"two settings are named {min(twice)}; give each a name of its own")
    for item in items:
        for name in (item.category, item.id):
            _refuse_name(name)
    folders = {setting.name: folder / CLIPS_FOLDER / setting.name for setting in settings}
    lines = [
        _line(item, setting, folders[setting.name], prompt_file, seed + index)
        for setting in settings
        for index, item in enumerate(items)
    ]
    with Session(open_checkpoint(model), HardwareOptions(device=device)) as session:
        planned = plan_lines(lines, session)
        _refuse_others([one for one in planned if one.plan is not None], session, folder)
        session.resolve([one.plan for one in planned if one.plan is not None], on_progress)
        done = make_lines(planned, session, False, on_progress)
    if done.failures:
        failures = "\n  ".join(done.failures)
        raise PhonofilmError(f"{len(done.failures)} of {len(lines)} clips failed; run it again to go on:\n  {failures}")
    return folders


def generate_reports(
    model: str,
    device: str,
    prompts: Path,
    sets: Sequence[str],
    settings: Sequence[str],
    output: Path,
    seed: int,
    on_progress: OnProgress,
) -> dict[Path, list[Path]]:
    """Make the clips of a prompt file's sets; the folder for the report of each setting, and where its clips are."""
    items = choose_sets(read_prompt_items(prompts), sets)
    parsed = [parse_setting(text) for text in settings]
    emit(on_progress, Message(f"{counted(len(items), 'prompt')} x {counted(len(parsed), 'setting')} with {model}"))
    made = generate_clips(model, device, items, prompts, parsed, output, seed, on_progress)
    return {output / name: [folder] for name, folder in made.items()}


def _refuse_name(name: str) -> None:
    """Raises InputError for a set or an id of a prompt file that would be a path, or the name of a hidden file."""
    is_path = name.startswith(".") or "/" in name or "\\" in name
    if not name or is_path or shown(name) != name or len(name.encode()) > MOST_BYTES:
        raise InputError(
            f"clips are named after the sets and ids of the prompt file, and {shown(name)} is no name for a file: 1 to "
            f"{MOST_BYTES} bytes without slashes and control characters, and no full stop in front"
        )


def _refuse_others(planned: Sequence[PlannedLine], session: Session, folder: Path) -> None:
    """Raises InputError when other clips lie where some are to be made."""
    occupied = 0
    for one in planned:
        outputs = choose_outputs_of(one.line.options, overwrite=True)
        assert one.plan is not None
        there = any(output.path.exists() for output in outputs)
        occupied += there and not is_done(one.plan, outputs, one.line, session)
    if occupied:
        raise InputError(
            f"{occupied} of {len(planned)} clips are there already and were made with other options or another model; give "
            f"the setting another name, name another folder (-o), or remove {folder / CLIPS_FOLDER} and its reports first"
        )


def _line(item: PromptItem, setting: Setting, folder: Path, prompt_file: Path, seed: int) -> Line:
    """First frames are found beside the prompt file; an item that names none, or one that is not there, has none."""
    image = prompt_file.parent / item.first_frame if item.first_frame else None
    own = ClipOptions(
        prompt=item.prompt,
        image=image if image is not None and image.is_file() else None,
        seed=seed,
        output=folder / item.category / f"{item.id}.mp4",
    )
    return Line(f"{setting.name}, {item.category} {item.id}", own.over(replace(setting.options, output=None)))


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
