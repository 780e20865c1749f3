"""A pipeline from a checkpoint folder, and back. What a folder looks like and every check of it lives in `models`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from phonofilm.models.layout import NETWORKS, PipelineScalars, read_layout
from phonofilm.models.loading import Dtypes, LoadProgress, load_components, load_tokenizer
from phonofilm.models.saving import save_checkpoint
from phonofilm.pipeline.schedule import FlowMatchPairScheduler

if TYPE_CHECKING:
    from phonofilm.pipeline.mova import MovaPipeline

# The original decodes sound in float32 whatever the rest runs in: half precision is audible there.
FLOAT32_COMPONENT = "audio_vae"


def pipeline_arguments(
    name_or_path: str | Path,
    torch_dtype: Dtypes,
    *,
    device: torch.device | str,
    skip: Collection[str],
    progress: LoadProgress | None,
    **hub: Any,
) -> dict[str, Any]:
    """The constructor arguments of MovaPipeline for a checkpoint. `skip` names components that stay None."""
    from phonofilm.models.hub import resolve_model

    layout = read_layout(resolve_model(name_or_path, **hub), skip)
    dtypes = torch_dtype
    if isinstance(torch_dtype, torch.dtype):
        dtypes = {"default": torch_dtype, FLOAT32_COMPONENT: torch.float32}
    networks: Mapping[str, Any] = load_components(layout, dtypes, skip=skip, device=device, progress=progress)
    scalars = layout.scalars
    return {
        **{name: networks.get(name) for name in NETWORKS},
        "tokenizer": None if "tokenizer" in skip else load_tokenizer(layout),
        "scheduler": FlowMatchPairScheduler(**layout.scheduler_config),
        "audio_vae_type": scalars.audio_vae_type,
        "boundary_ratio": scalars.boundary_ratio,
        "defaults": None if scalars.defaults is None else dict(scalars.defaults),
    }


def save_pipeline(pipeline: MovaPipeline, folder: str | Path, max_shard_size: int | str, overwrite: bool) -> Path:
    """Write every component of `pipeline` in the released layout and names."""
    networks = {name: getattr(pipeline, name) for name in NETWORKS if getattr(pipeline, name) is not None}
    config = pipeline.config
    scheduler = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    scalars = PipelineScalars(config.boundary_ratio, config.audio_vae_type, config.defaults)
    return save_checkpoint(
        folder,
        networks,
        pipeline.tokenizer,
        scheduler,
        scalars,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
    )
