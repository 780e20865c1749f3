"""A fine-tuning from its config: clips cached if they are not, networks loaded without encoders, trained, exported."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from phonofilm.data.cache import update_cache
from phonofilm.data.cache_keys import autoencoder_hash
from phonofilm.data.caption_cache import read_captions, update_caption_cache
from phonofilm.data.encoders import Encoders
from phonofilm.data.sets import Source, gather
from phonofilm.data.windows import Bucket, WindowPlan, parse_bucket
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.geometry import parse_frame_rate
from phonofilm.models.hub import resolve_model
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.layout import CheckpointLayout, read_layout
from phonofilm.models.loading import load_components
from phonofilm.models.quantized import format_of, quantize_network
from phonofilm.notices import NOTICE
from phonofilm.parallel.rank import RankError
from phonofilm.pipeline.call_arguments import Defaults
from phonofilm.training.checkpointing.run_folder import (
    checkpoint_folders,
    latest_checkpoint,
    refuse_second_start,
    sweep_checkpoints,
)
from phonofilm.training.checkpointing.run_lock import run_lock
from phonofilm.training.checkpointing.run_state import refuse_other_run
from phonofilm.training.checkpointing.snapshot import read_state
from phonofilm.training.config.config_files import write_config
from phonofilm.training.config.finetune_config import FinetuneConfig, as_plain
from phonofilm.training.loop.processes import join_processes
from phonofilm.training.loop.run_log import run_log
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.loop.training_state import ProgressCallback
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.context_parallel import check_sharing
from phonofilm.training.task.distill_batch import DistillData
from phonofilm.training.task.distill_task import DistillTask
from phonofilm.training.task.finetune_task import FinetuneTask, checkpoint_objective
from phonofilm.training.task.interface import Hook, RunEnd
from phonofilm.training.task.joint_task import JointModel
from phonofilm.training.task.trigger_word import has_trigger, triggered
from phonofilm.training.task.weight_placement import (
    FullyShardedWeights,
    ResidentWeights,
    StreamedWeights,
    WeightPlacement,
)
from phonofilm.units import counted

logger = logging.getLogger(__name__)

ENCODERS = ("video_vae", "audio_vae", "text_encoder")


@dataclass(frozen=True)
class FinetuneResult:
    """How the run ended, and what it made: a LoRA file or a checkpoint folder. None where there is nothing yet."""

    run: RunEnd
    result: Path | None

    @property
    def line(self) -> str:
        """The last line of a run."""
        made = f": {self.result}" if self.result else ""
        further = "" if self.run.reason == "finished" else "; the same command with --resume goes on"
        return f"{self.run.reason} after {counted(self.run.step, 'update')}{made}{further}"


def prepare_finetune(config: FinetuneConfig, output: Path) -> FinetuneTask:
    """Everything a training needs, on the host: clips in the cache, networks loaded, adapters put in."""
    placement = weight_placement_for(config)
    layout = read_layout(resolve_model(config.model))
    check_sharing(config, layout, join_processes(config).num_processes)
    clips = cached_clips(config, layout, output)
    objective = checkpoint_objective(config, layout)
    if config.distill is None:
        return FinetuneTask(load_model(config, layout), clips, config, objective, placement, layout)
    data = distill_data(config, layout, clips)
    return DistillTask(load_model(config, layout), clips, data, config, objective, placement, layout)


@contextmanager
def open_run(
    config: FinetuneConfig, output: Path, *, resume: bool = False, allow: Sequence[str] = (), only_plan: bool = False
) -> Iterator[bool]:
    """Hold the run folder: one writer at a time, what killed runs left is removed, `log.txt` is written. All processes enter.

    Yields whether the run goes on from a checkpoint. `only_plan`: nothing will be trained, so checkpoints are no obstacle.

    Raises:
        InputError: another process trains there, or it holds checkpoints and the run is not to be resumed.
        CheckpointError: the config differs from that of the checkpoint in a key that `allow` does not name.
    """
    state = join_processes(config)
    with ExitStack() as stack:
        problem = None
        if state.is_main_process:
            try:
                stack.enter_context(run_lock(output))
                sweep_checkpoints(output)
                if not only_plan:
                    _check_run(config, output, resume, allow, state.num_processes)
                stack.enter_context(run_log(output))
            except PhonofilmError as error:
                problem = error
        if broadcast_object_list([problem is not None])[0]:
            raise problem or RankError("the first process cannot train into the run folder, and says why")
        yield resume and bool(checkpoint_folders(output))


def _check_run(config: FinetuneConfig, output: Path, resume: bool, allow: Sequence[str], processes: int) -> None:
    """What can be refused before anything is loaded."""
    if not resume:
        refuse_second_start(output)
    elif checkpoint_folders(output):
        refuse_other_run(read_state(latest_checkpoint(output), mapped=True), config, None, processes, allow)


def finetune(
    task: FinetuneTask,
    output: Path,
    hooks: Sequence[Hook] = (),
    *,
    resume: bool = False,
    allow: Sequence[str] = (),
    until: int | None = None,
    watch: ProgressCallback | None = None,
    before: Callable[[Trainer], None] | None = None,
) -> FinetuneResult:
    """Train into the run folder. `resume` goes on from its latest checkpoint, or starts when it has none yet.

    `before` is called when everything is ready to train from the start, and not when the run goes on; `watch` after every
    update.
    """
    trainer = Trainer(task, task.config, output, hooks, watch=watch)
    goes_on = resume and bool(checkpoint_folders(output))
    if goes_on:
        trainer.resume(allow)
    if trainer.accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        write_config(as_plain(task.config), output / "config.yaml")
    if before is not None and not goes_on:
        before(trainer)
    with trainer.undisturbed(), trainer.arithmetic(), trainer.accelerator.autocast():
        task.before_training(output, trainer.step)
    try:
        end = trainer.run(until)
    except PhonofilmError as error:
        logger.info("stopped: %s", error)  # for `log.txt`: the terminal may be gone when somebody asks why
        raise
    result = None
    if trainer.accelerator.is_main_process:
        result = task.result(trainer.checkpointer.final_weights(), end, output)
    trainer.accelerator.wait_for_everyone()
    return FinetuneResult(end, result)


def weight_placement_for(config: FinetuneConfig) -> WeightPlacement:
    """Who holds the base weights in the config's mode."""
    match config.mode:
        case "accelerate":
            return ResidentWeights()
        case "low_resource":
            return StreamedWeights()
        case "fsdp":
            return FullyShardedWeights(trained=config.full is not None)


def cached_clips(config: FinetuneConfig, layout: CheckpointLayout, output: Path) -> CachedClips:
    """The clips as latents and text: the cache is brought up to date first if the config names clips.

    In several processes the first does so and the others wait. Raises InputError for a cache of other autoencoders.
    """
    folder = config.data.cache or output / "cache"
    state = join_processes(config)
    captions = None if config.distill is None else config.distill.captions
    if (config.data.sets or captions is not None) and state.is_local_main_process:
        _update(folder, config, layout, state.device)
    state.wait_for_everyone()
    clips = CachedClips(folder, config.seed)
    if clips.captions_only and config.distill is None:
        raise InputError(
            f"{folder} holds captions and no clips, which only a distillation learns from; give other data"
        )
    if not config.data.sets and captions is None and clips.index.autoencoders != autoencoder_hash(layout):
        raise InputError(f"{folder} was made with other autoencoders than those of {config.model}; make it again")
    word = config.trigger_word
    if word is not None and any(not has_trigger(entry.caption, word) for entry in clips.index.entries):
        raise InputError(
            f"trigger_word is {word!r}, and {folder} holds captions without it; name the clips with --data, so that their "
            "captions are encoded with it, or leave trigger_word out"
        )
    return clips


def distill_data(config: FinetuneConfig, layout: CheckpointLayout, clips: CachedClips) -> DistillData:
    """What a distillation is given: the clips' captions and frames, and the teacher's negative prompt."""
    assert config.distill is not None
    negative = config.distill.negative_prompt
    if negative is None:
        negative = Defaults(**(layout.scalars.defaults or {})).negative_prompt
    encoders = Encoders(layout, torch.device("cpu"))
    shapes = {
        name: (
            int(layout.components["audio_dit"].config["in_dim"]),
            encoders.geometry(parse_bucket(name), clips.index.rate).audio_latents,
        )
        for name in clips.buckets
    }
    data = DistillData(clips, clips.empty if negative == "" else encoders.text(negative).embeds, shapes)
    del encoders
    gc.collect()
    return data


def load_model(config: FinetuneConfig, layout: CheckpointLayout) -> JointModel:
    """Towers and bridge on the host, in evaluation mode until they train; encoders are not loaded.

    Models that are trained whole are float32 or, where they will be cut up, as their files are: mapped, not read.
    """
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    usual = "bfloat16" if on_gpu and config.full is None else "float32"
    dtype = getattr(torch, usual if config.base_dtype == "auto" else config.base_dtype)
    mapped = config.full is not None and config.mode == "fsdp"
    networks: dict[str, Any] = {**load_components(layout, None if mapped else dtype, skip=ENCODERS)}
    if config.quantize is not None:
        for name, network in networks.items():
            _quantize(name, network, config.quantize)
    shared = networks["audio_dit"], networks["dual_tower_bridge"]
    second = networks.get("video_dit_2")
    low = None if second is None else JointDenoiser(second, *shared)
    return JointModel(JointDenoiser(networks["video_dit"], *shared), low, None)


def _quantize(name: str, network: nn.Module, kind: str) -> None:
    already = format_of(network)
    if already is not None:
        raise InputError(f"quantize={kind}: {name} of this checkpoint is {already} already; leave quantize out")
    report = quantize_network(network, kind)
    logger.log(NOTICE, "%s: %d layers in %s, relative error %.4f", name, report.layers, kind, report.error)


def _update(folder: Path, config: FinetuneConfig, layout: CheckpointLayout, device: torch.device) -> None:
    data = config.data
    captions = None if config.distill is None else config.distill.captions
    if captions is not None:
        bucket = parse_bucket(data.buckets[0]) if data.buckets else _default_bucket(layout)
        rate = parse_frame_rate(data.frame_rate)
        made = update_caption_cache(
            folder, read_captions(captions), bucket, rate, config.model, Encoders(layout, device)
        )
        logger.log(NOTICE, "cache %s: %d captions; frames encoded now: %d", folder, made.entries, made.frames)
        _give_back(device)
        return
    buckets = tuple(map(parse_bucket, data.buckets)) or (_default_bucket(layout),)
    plan = WindowPlan(buckets, parse_frame_rate(data.frame_rate), data.windows, data.count, data.seed)
    sources = [Source(part.path, part.weight) for part in data.sets]
    entries = gather(sources, plan, refuse_silent=data.silent == "refuse")
    if config.trigger_word is not None:
        entries = triggered(entries, config.trigger_word)
    built = update_cache(folder, entries, config.model, Encoders(layout, device))
    logger.log(NOTICE, "cache %s: %d windows encoded, %d kept", folder, built.latents_made, built.latents_kept)
    _give_back(device)


def _give_back(device: torch.device) -> None:
    """Give the encoders' memory back."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _default_bucket(layout: CheckpointLayout) -> Bucket:
    """The size that the checkpoint makes when no size is given."""
    usual = Defaults(**(layout.scalars.defaults or {}))
    return Bucket(usual.height, usual.width, usual.num_frames)
