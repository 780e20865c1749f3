"""How a clip was made: what its metadata holds, and the way back to the options that repeat it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import phonofilm
from phonofilm.errors import CheckpointError, InputError, MediaError
from phonofilm.files import file_hash
from phonofilm.generation.options import EXCLUSIVE, ClipOptions, options_from_json
from phonofilm.media.metadata import FOLDER_FILE
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.config_check import FEW_STEPS_KEY, check_few_steps
from phonofilm.untrusted import FOLDER_FAULT, file_fault, shown

if TYPE_CHECKING:
    from phonofilm.generation.checkpoint import Checkpoint
    from phonofilm.generation.clip_plan import ClipPlan
    from phonofilm.generation.placement.devices import DevicePlacement

logger = logging.getLogger(__name__)

# Options whose value is a file that goes into the clip.
INPUTS = ("image", "last_image", "video", "audio", "continue_from", "voice")
# The other options that a clip's metadata holds, as they were used, not only as they were given.
SETTINGS = (
    *("prompt", "negative_prompt", "seed", "size", "num_frames", "fps", "steps", "guidance_scale"),
    *("audio_guidance_scale", "modality_scale", "video_shift", "audio_shift", "boundary_ratio", "image_fit"),
    *("guidance_interval", "solver", "cache"),
    *("seconds", "part_seconds", "overlap_frames", "retake", "retake_tracks"),
)
# Lists of files in a clip's metadata beside `inputs`: the option of each, and what is kept with the file.
NAMED = {"loras": "lora", "keyframes": "keyframe"}
DETAILS = {"loras": "strength", "keyframes": "seconds"}
ABOUT = ("model", "fingerprint", "dtype")
# The name of the student of few steps that lies in a checkpoint's own folder, in place of a LoRA file's path.
OWN_STUDENT = "few-steps"
# Options that the student decides, or has no use for: whoever gives one of them another value does not mean it.
TEACHERS = (
    *("negative_prompt", "guidance_scale", "audio_guidance_scale", "modality_scale", "guidance_interval"),
    *("solver", "cache", "video_shift", "audio_shift", "boundary_ratio"),
)
# What stands after the colon of --lora, as `format_strength` writes it.
STRENGTH = re.compile(r"[\w.=,+-]{0,200}")
# Settings that a given clip decides, which must then be left out.
FOLLOWS_VIDEO = ("num_frames", "fps")


@dataclass(frozen=True)
class InputFile:
    """A file that went into a clip; `path` as `portable_path` writes it, or None for what was given in memory."""

    option: str
    path: str | None
    sha256: str


def clip_metadata(plan: ClipPlan, checkpoint: Checkpoint, placement: DevicePlacement) -> dict[str, Any]:
    """What a clip says about how it was made; media/metadata.py puts it into its file."""
    inputs = plan.inputs
    keyframes = [
        {"path": file.path, "sha256": file.sha256, "seconds": str(one.seconds)}
        for one, file in zip(inputs.keyframes, inputs.keyframe_files, strict=True)
    ]
    return {
        **plan.settings(),
        "seed": plan.seed,
        "inputs": [{"option": f.option, "path": f.path, "sha256": f.sha256} for f in inputs.files],
        **({"keyframes": keyframes} if keyframes else {}),
        **({"loras": [use.metadata() for use in plan.loras]} if plan.loras else {}),
        **({} if plan.sampling.few_steps is None else {FEW_STEPS_KEY: asdict(plan.sampling.few_steps)}),
        "model": checkpoint.portable_name,
        "fingerprint": checkpoint.fingerprint,
        "dtype": placement.dtype_name,
        "device": placement.device.type,
        "offload": placement.offload,
        **({"vae_tiling": True} if placement.vae_tiling else {}),
        "attention": placement.attention,
        "phonofilm": phonofilm.__version__,
    }


def portable_path(path: Path) -> str:
    """A path fit for a file that travels: as given if it is relative, else the name alone."""
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def input_file(option: str, path: Path) -> InputFile:
    """Raises InputError when there is no such file. Of a frame folder, all files are hashed."""
    fault = file_fault(path)
    if fault not in (None, FOLDER_FAULT):
        raise InputError(f"{option}: no file at {shown(path)}: {fault}")
    return InputFile(option, portable_path(path), file_hash(path))


@dataclass(frozen=True)
class Provenance:
    """How a clip was made: the options that make it again, the model and its precision.

    student: the SHA-256 of the model's own student of few steps, where the options name it.
    """

    clip: Path
    options: ClipOptions
    model: str
    fingerprint: str
    dtype: str
    student: str | None = None

    def check_model(self, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError when the model found under the recorded name, or its own student, is not the clip's."""
        if checkpoint.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{self.clip} was made with another checkpoint than the one that {self.model} is now (fingerprint "
                f"{self.fingerprint}, found {checkpoint.fingerprint}); give the right one as model=, or this one to accept "
                "that the clip will differ"
            )
        self.check_student(checkpoint)

    def check_student(self, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError when the clip was made with another student of few steps than the checkpoint has now."""
        if self.student is None:
            return
        file = checkpoint.loras.student_file
        if file is None or file_hash(file) != self.student:
            raise CheckpointError(
                f"{self.clip} was made with the student of few steps of {self.model}, which has "
                f"{'no' if file is None else 'another'} {STUDENT_FILE} now; put the file back, or give lora={OWN_STUDENT} or "
                "lora=none to make a different clip"
            )


def read_provenance(metadata: Mapping[str, Any], clip: Path, again: ClipOptions) -> Provenance:
    """The provenance in a clip's metadata. `again`: the options given besides; inputs that they replace are not looked for.

    Raises MediaError when the metadata is not ours, InputError when an input is not found or is not the file it was.
    """
    files, loras, keyframes = (recorded_files(metadata, key, clip, again) for key in ("inputs", *NAMED))
    about: dict[str, str] = {key: value for key in ABOUT if isinstance(value := metadata.get(key), str) and value}
    if len(about) < len(ABOUT):
        raise _not_ours(clip)
    options = {key: metadata[key] for key in SETTINGS if key in metadata}
    if options.get("audio_guidance_scale") == options.get("guidance_scale"):
        options.pop("audio_guidance_scale", None)  # it followed, and does so again if the other is changed
    replaced = {name for group in EXCLUSIVE for name in group if any(getattr(again, other) for other in group)}
    for file, _ in files:
        given = getattr(again, file.option, None)
        if given is None and file.option not in replaced:
            options[file.option] = str(_found(file, clip))
        elif given is not None and given.exists() and file_hash(given) != file.sha256:
            logger.warning("%s is not the %s %s was made with; the clip will differ", given, file.path, clip)
    student = None
    if again.lora is not None:
        options = _without_few_steps(options, metadata, clip)
    elif loras:
        student = next((file.sha256 for file, _ in loras if file.path == OWN_STUDENT), None)
        options["lora"] = [f"{_found_lora(file, clip)}:{strength}" for file, strength in loras]
    if keyframes and again.keyframe is None:
        options["keyframe"] = [f"{seconds}={_found(file, clip)}" for file, seconds in keyframes]
    if "video" in options:
        options = {key: value for key, value in options.items() if key not in FOLLOWS_VIDEO}
    return Provenance(clip, options_from_json(options, shown(clip)), **about, student=student)


def _without_few_steps(options: dict[str, Any], metadata: Mapping[str, Any], clip: Path) -> dict[str, Any]:
    """The options without those that are as the clip's distilled model wanted them: other LoRAs have settings of their own."""
    if FEW_STEPS_KEY not in metadata:
        return options
    few = metadata[FEW_STEPS_KEY]
    try:
        check_few_steps(few)
    except ValueError as error:
        raise _not_ours(clip) from error
    # Among the options modality_scale is a text.
    wanted = {name: str(float(value)) if name == "modality_scale" else value for name, value in few.items()}
    return {name: value for name, value in options.items() if name not in wanted or value != wanted[name]}


def recorded_files(
    metadata: Mapping[str, Any], key: str, clip: Path, again: ClipOptions
) -> list[tuple[InputFile, str]]:
    """The files under `inputs`, `loras` or `keyframes` of a clip's metadata, each with its strength or seconds (empty for
    inputs).

    Metadata comes from whoever made the file: only options that read a file are taken, and only paths that stay in the
    folder they start from, unless `again` gives another file in their place. Raises MediaError for anything else.
    """
    entries = metadata.get(key, None if key == "inputs" else [])
    if not isinstance(entries, list):
        raise _not_ours(clip)
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise _not_ours(clip)
        option, strength = (entry.get("option"), "") if key == "inputs" else (NAMED[key], entry.get(DETAILS[key]))
        path, digest = entry.get("path"), entry.get("sha256")
        if option not in (*INPUTS, *NAMED.values()) or not isinstance(digest, str):
            raise _not_ours(clip)
        if not isinstance(strength, str) or STRENGTH.fullmatch(strength) is None:
            raise _not_ours(clip)
        if path is None and option != "lora":  # it was given in memory
            found.append((InputFile(option, None, digest), strength))
            continue
        if not isinstance(path, str):
            raise _not_ours(clip)
        if getattr(again, option) is None and not is_inside(path):
            raise MediaError(
                f"{shown(clip)} names {shown(path)} as its {option}, which lies outside its folder; if it is meant, give it "
                f"as {option}="
            )
        found.append((InputFile(option, path, digest), strength))
    return found


def is_inside(path: str) -> bool:
    """Whether a recorded path leads to something below the folder that it starts from, by its name alone."""
    parts = Path(path).parts
    return (
        bool(parts) and not Path(path).is_absolute() and ".." not in parts and "\0" not in path and parts[0][:1] != "~"
    )


def check_recorded_model(model: str, clip: Path) -> None:
    """Raises MediaError unless it is a short name, a hub id or a local folder as `Checkpoint.portable_name` writes it.

    For a model that is opened by this name, and not for one that was given besides.
    """
    if not is_inside(model) or len(model) > 300:
        raise MediaError(f"{shown(clip)} names the model {shown(model)}, which is no name of one; give it as model=")


def _not_ours(clip: Path) -> MediaError:
    return MediaError(f"{shown(clip)} carries no settings of phonofilm generate, so it cannot be repeated")


def _found_lora(file: InputFile, clip: Path) -> str:
    """As _found; the checkpoint's own student is in the checkpoint, wherever that is."""
    return OWN_STUDENT if file.path == OWN_STUDENT else str(_found(file, clip))


def _found(file: InputFile, clip: Path) -> Path:
    """Where an input is now: from the current folder, or beside the clip. A folder only counts if it is one of frames."""
    if file.path is None:
        raise InputError(f"{shown(clip)} was made with an object in memory as {file.option}; give it as {file.option}=")
    for place in (Path(file.path), clip.parent / file.path, clip.parent / Path(file.path).name):
        fault = file_fault(place)
        if fault is not None and not (fault == FOLDER_FAULT and (place / FOLDER_FILE).is_file()):
            continue
        if file_hash(place) != file.sha256:
            raise InputError(
                f"{place} is not the file {clip} was made with: its content has changed; give the right one with "
                f"{file.option}=, or this one to make a different clip"
            )
        return place
    raise InputError(f"{shown(clip)} was made with {shown(file.path)}, which is not here; give it with {file.option}=")
