"""The numbers of a checkpoint that belong to no network: the scheduler's, and those of model_index.json; read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonofilm.errors import CheckpointError
from phonofilm.models.checkpoint_files import MODEL_INDEX, read_json
from phonofilm.models.config_check import check_few_steps, check_ranges

SCHEDULER_CONFIG = "scheduler_config.json"
SCHEDULER_KEYS: dict[str, tuple[float, float] | type] = {
    "num_inference_steps": (1, 100_000),
    "num_train_timesteps": (1, 100_000),
    "shift": (1e-3, 1e3),
    "sigma_max": (1e-6, 1.0),
    "sigma_min": (0.0, 1.0),
    **dict.fromkeys(("inverse_timesteps", "extra_one_step", "reverse_sigmas", "exponential_shift"), bool),
    "exponential_shift_mu": (-1e3, 1e3),
    "shift_terminal": (-1e3, 1e3),
}
MAY_BE_NULL = ("exponential_shift_mu", "shift_terminal")  # what the released files have there
# The fields of pipeline.call_arguments.Defaults.
DEFAULTS_KEYS: dict[str, tuple[float, float] | type] = {
    **dict.fromkeys(("height", "width"), (1, 8192)),
    "num_frames": (1, 100_000),
    "frame_rate": (1.0, 240.0),
    "num_inference_steps": (1, 100_000),
    "guidance_scale": (-1e3, 1e3),
    "modality_scale": (-1e3, 1e3),
    "negative_prompt": str,
}


@dataclass(frozen=True)
class PipelineScalars:
    """The numbers of model_index.json. `boundary_ratio` (0..1): the sigma at which the second expert takes over.

    `defaults`: sizes and settings of a call that names none, where they are not the released models' own. `few_steps`:
    the only settings that a distilled model is to be sampled with, as `phonofilm.pipeline.few_steps` reads them.
    """

    boundary_ratio: float = 0.9
    audio_vae_type: str = "dac"
    defaults: Mapping[str, Any] | None = None
    few_steps: Mapping[str, Any] | None = None


def read_scheduler_config(root: Path) -> dict[str, Any]:
    """scheduler_config.json without its private keys: the scheduler's constructor arguments."""
    if not (root / "scheduler").is_dir():
        raise CheckpointError(f"the component scheduler is missing: there is no folder {root / 'scheduler'}")
    config = read_json(root / "scheduler" / SCHEDULER_CONFIG)
    public = {key: value for key, value in config.items() if not key.startswith("_")}
    _check_ranges(root / "scheduler" / SCHEDULER_CONFIG, public, SCHEDULER_KEYS)
    if empty := [key for key, value in public.items() if value is None and key not in MAY_BE_NULL]:
        raise CheckpointError(
            f"{root / 'scheduler' / SCHEDULER_CONFIG} has {empty[0]} null; give it a value, or leave it out"
        )
    return public


def read_scalars(root: Path) -> PipelineScalars:
    """The pipeline's own numbers. Raises CheckpointError when one is out of range."""
    content = read_json(root / MODEL_INDEX)
    defaults = content.get("defaults")
    if defaults is not None and not isinstance(defaults, dict):
        raise CheckpointError(f"{root / MODEL_INDEX} has defaults {defaults!r:.80}; expected an object")
    _check_ranges(root / MODEL_INDEX, defaults or {}, DEFAULTS_KEYS, "defaults ")
    scalars = PipelineScalars(
        **{k: content[k] for k in ("boundary_ratio", "audio_vae_type", "defaults", "few_steps") if k in content}
    )
    if scalars.few_steps is not None:
        try:
            check_few_steps(scalars.few_steps)
        except ValueError as error:
            raise CheckpointError(f"{root / MODEL_INDEX} {error}") from error
    ratio = scalars.boundary_ratio
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 <= ratio <= 1:
        raise CheckpointError(
            f"{root / MODEL_INDEX} has boundary_ratio {ratio!r:.80}; expected a number between 0 and 1"
        )
    if scalars.audio_vae_type != "dac":
        raise CheckpointError(
            f"{root / MODEL_INDEX} has audio_vae_type {scalars.audio_vae_type!r:.80}; the released models have 'dac', and no "
            "other audio VAE is supported"
        )
    return scalars


def _check_ranges(
    file: Path, values: Mapping[str, Any], known: Mapping[str, tuple[float, float] | type], within: str = ""
) -> None:
    try:
        check_ranges(values, known)
    except ValueError as error:
        raise CheckpointError(f"{file} {within and f'({within.strip()}) '}{error}") from error
