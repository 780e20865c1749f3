"""A pipeline from a checkpoint folder, and back. What a folder looks like and every check of it lives in `models`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch

from phonofilm.errors import InputError
from phonofilm.models.hub import resolve_model
from phonofilm.models.layout import NETWORKS, CheckpointLayout, read_layout
from phonofilm.models.loading import Dtypes, LoadProgress, load_components, load_tokenizer
from phonofilm.models.saving import save_checkpoint
from phonofilm.models.scalars import PipelineScalars
from phonofilm.pipeline.few_steps import index_entries
from phonofilm.pipeline.schedule import FlowMatchPairScheduler

if TYPE_CHECKING:
    from phonofilm.pipeline.mova import MovaPipeline

# The original decodes sound in float32 whatever the rest runs in: half precision is audible there.
FLOAT32_COMPONENT = "audio_vae"


def pipeline_arguments(
    layout: CheckpointLayout,
    torch_dtype: Dtypes,
    *,
    device: torch.device | str,
    skip: Collection[str],
    progress: LoadProgress | None,
    tokenizer: Any | None = None,
) -> dict[str, Any]:
    """The constructor arguments of MovaPipeline for a checkpoint. `skip` names components that stay None.

    `tokenizer`: the checkpoint's, where it was loaded already.
    """
    dtypes = torch_dtype
    if isinstance(torch_dtype, torch.dtype):
        dtypes = {"default": torch_dtype, FLOAT32_COMPONENT: torch.float32}
    networks: Mapping[str, Any] = load_components(layout, dtypes, skip=skip, device=device, progress=progress)
    scalars = layout.scalars
    return {
        **{name: networks.get(name) for name in NETWORKS},
        "tokenizer": None if "tokenizer" in skip else tokenizer or load_tokenizer(layout),
        "scheduler": FlowMatchPairScheduler(**layout.scheduler_config),
        "audio_vae_type": scalars.audio_vae_type,
        "boundary_ratio": scalars.boundary_ratio,
        "defaults": None if scalars.defaults is None else dict(scalars.defaults),
        "few_steps": None if scalars.few_steps is None else dict(scalars.few_steps),
    }


def _check_dtype(torch_dtype: Dtypes) -> None:
    named = torch_dtype if isinstance(torch_dtype, Mapping) else {"torch_dtype": torch_dtype}
    for name, dtype in named.items():
        if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
            raise InputError(f"{name} is {dtype}; expected one with fractions, such as torch.bfloat16")
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise InputError(
                f"{name} is {dtype!r}, a {type(dtype).__name__}; expected a torch.dtype such as torch.bfloat16"
            )


def save_pipeline(pipeline: MovaPipeline, folder: str | Path, max_shard_size: int | str, overwrite: bool) -> Path:
    """Write every component of `pipeline` in the released layout and names."""
    networks = {name: getattr(pipeline, name) for name in NETWORKS if getattr(pipeline, name) is not None}
    config = pipeline.config
    scheduler = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    scalars = PipelineScalars(config.boundary_ratio, config.audio_vae_type, config.defaults, config.few_steps)
    if pipeline.few_steps is not None:  # the distilled LoRA is in the weights
        scalars = replace(scalars, **index_entries(pipeline.few_steps, config.defaults or {}))
    return save_checkpoint(
        folder,
        networks,
        pipeline.tokenizer,
        scheduler,
        scalars,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
    )


class PretrainedMethods:
    """Loading and saving a pipeline, under diffusers' names."""

    # `register_modules` puts their classes into the config. The networks themselves in it would be written out as text,
    # layer by layer, for every one that is registered: a second and more at the released sizes.
    ignore_for_config = [*NETWORKS, "tokenizer", "scheduler"]  # noqa: RUF012

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        torch_dtype: Dtypes = None,
        *,
        device: torch.device | str = "cpu",
        skip: Collection[str] = (),
        progress: LoadProgress | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
    ) -> Self:
        """Load a checkpoint in the released layout. Nothing in it is imported or executed.

        Args:
            pretrained_model_name_or_path: a folder, a hub id, or a short name: nano, 360p, 720p.
            torch_dtype: for all components (the audio VAE stays float32, as the original runs it), or per component, with
                "default" for the rest. None keeps what the files have.
            device: where the weights go.
            skip: components to leave out, for example text_encoder when prompt_embeds are given.
            progress: called as (component, bytes done, bytes in all) while weights arrive.
            revision, cache_dir, local_files_only, token: as `huggingface_hub` takes them.

        Raises:
            CheckpointError: naming what is missing, unknown, misshapen, truncated or unsafe, before weights are read.
        """
        _check_dtype(torch_dtype)
        folder = resolve_model(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        layout = read_layout(folder, skip)
        return cls(**pipeline_arguments(layout, torch_dtype, device=device, skip=skip, progress=progress))

    def save_pretrained(
        self, save_directory: str | Path, *, max_shard_size: int | str = "5GB", overwrite: bool = False
    ) -> None:
        """Write a checkpoint in the original's layout and names, which other MOVA tools open. Whole, or not at all."""
        save_pipeline(cast("MovaPipeline", self), save_directory, max_shard_size, overwrite)
