"""Plans clips of one checkpoint on one machine and makes them. Weights are loaded when the first clip needs them, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import Any, Self

import torch
from torch import Tensor

from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.advice import advise
from phonofilm.generation.checkpoint import Checkpoint
from phonofilm.generation.clip_plan import ClipPlan, plan_clip
from phonofilm.generation.films.film_plan import is_film, plan_film
from phonofilm.generation.films.part_files import PartFolder
from phonofilm.generation.films.part_runs import check_parts, run_parts
from phonofilm.generation.films.retake_plan import is_in_parts, plan_retakes
from phonofilm.generation.inputs import ClipInputs, MediaInMemory, read_inputs
from phonofilm.generation.loras import LoraUse, use_loras
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.pipeline_loading import LoadedModel, load_pipeline
from phonofilm.generation.placement.attention import AUTO, attention_of, resolve_attention
from phonofilm.generation.placement.computing import StepTimes, check_computing
from phonofilm.generation.placement.devices import explaining_memory
from phonofilm.generation.placement.hardware import HardwareOptions, requested_placement
from phonofilm.generation.placement.offload import MemoryLimits, resolve_placement
from phonofilm.generation.placement.threads import threads
from phonofilm.generation.preview import Previews
from phonofilm.generation.provenance import clip_metadata
from phonofilm.generation.report import Message, OnProgress, SamplingStarted, StageStarted, StepDone, emit, silent
from phonofilm.generation.summary import memory_warning, plan_line
from phonofilm.parallel.parallel_session import ParallelSession
from phonofilm.parallel.rank import RankError
from phonofilm.pipeline.decode import MovaPipelineOutput
from phonofilm.pipeline.mova import MovaPipeline
from phonofilm.pipeline.sampling_limits import NO_CACHE

# Weights of fewer bytes (the embedded model's) run on one thread: steps of a few milliseconds gain little from a second
# one, and lose a hundredfold when other work holds its core.
SMALL = 10**8


class ClipMaker:
    """A checkpoint with its place on this machine. Threads that share one make their clips one after the other.

    `loras` are those of a clip that names none. `ranks`: the processes that share the work, this one among them; only the
    first of them finishes clips.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        hardware: HardwareOptions | None = None,
        loras: Sequence[str] = (),
        ranks: ParallelSession | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.hardware = hardware or HardwareOptions()
        self.loras = tuple(loras)
        self.ranks = ranks
        self._requested = requested_placement(self.hardware, ranks)
        self.placement = self._requested
        self._limits = MemoryLimits.of(self.hardware)
        self._model: LoadedModel | None = None
        self._loaded_with: tuple[LoraUse, ...] = ()
        # LoRAs are in the weights: a second clip begins when the first has been made with its own.
        self._turn = RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or another process, gets: all but the weights, which it reads when it needs them."""
        return {**vars(self), "_model": None, "_loaded_with": (), "_turn": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turn=RLock())

    def __repr__(self) -> str:
        weights = "weights loaded" if self.is_loaded else "weights not loaded"
        return f"{type(self).__name__}({self.checkpoint.name}, {self.placement.device}, {weights})"

    @property
    def is_loaded(self) -> bool:
        """Whether the weights have been read, and not let go of."""
        return self._model is not None

    def close(self) -> None:
        """Let go of the weights, and of the files of layers on disk. The next clip would read them again."""
        with self._turn:
            model, self._model = self._model, None
        if model is not None and model.layers_on_disk is not None:
            model.layers_on_disk.cleanup()
        if model is not None and self.placement.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def pipeline(self) -> MovaPipeline:
        """The diffusers pipeline with this session's LoRAs; loaded now if it was not."""
        self.resolve([self.plan_options(ClipOptions(prompt="a red ball"))])
        return self.pipeline_with(self.checkpoint.loras.take(self.loras))

    def plan_options(self, options: ClipOptions, media: MediaInMemory | None = None) -> ClipPlan:
        """The plan of a clip, checked. Loads no weights."""
        if options.lora is None and self.loras:
            options = replace(options, lora=self.loras)
        return self.plan_inputs(read_inputs(options, media))

    def plan_inputs(self, inputs: ClipInputs) -> ClipPlan:
        """The plan of a clip whose files are read already; of one that is longer than the model makes at once, in parts."""
        if inputs.retakes and is_in_parts(inputs, self.checkpoint):
            return plan_retakes(inputs, self.checkpoint)
        if (inputs.timed_prompts or inputs.options.seconds is not None) and is_film(inputs, self.checkpoint):
            return plan_film(inputs, self.checkpoint)
        return plan_clip(inputs, self.checkpoint)

    def line(self, plan: ClipPlan, clips: int = 1) -> str:
        """A plan in one line; of the first of `clips` with consecutive seeds."""
        unresolved = self._model is None and self.placement.offload == "auto"
        placement = (
            resolve_placement(self._requested, self._limits, self.checkpoint, plan.runs, silent)
            if unresolved
            else self.placement
        )
        return plan_line(plan, self.checkpoint, placement, clips)

    def resolve(self, plans: Sequence[ClipPlan], on_progress: OnProgress = silent) -> None:
        """Decide where weights wait so that all of these clips can be made. Loaded weights stay where they are.

        What there is to say about the clips is logged as warnings.
        """
        plans = [run for plan in plans for run in plan.runs]
        advise(plans, self.checkpoint, self.placement)
        if self._model is not None:
            return
        placement = resolve_placement(self._requested, self._limits, self.checkpoint, plans, on_progress)
        if placement.attention == AUTO:
            placement = resolve_attention(placement, self.checkpoint, plans, on_progress)
        if placement.computing.quantize is not None:
            check_computing(placement.computing, placement.offload, self.checkpoint)
        self.placement = placement
        if (warning := memory_warning(self.checkpoint, placement)) is not None:
            emit(on_progress, Message(f"warning: {warning}"))
        if placement.by_component and not placement.offloads:
            text = (
                f"offload {placement.offload}: the weights are in host memory already, nothing needs to wait elsewhere"
            )
            emit(on_progress, Message(text))

    def run(
        self,
        plan: ClipPlan,
        on_progress: OnProgress = silent,
        *,
        output_type: str = "pil",
        remove_video_dit: bool = False,
        kept: PartFolder | None = None,
    ) -> MovaPipelineOutput:
        """Make the clip of a plan. On ranks other than the first, which finishes it, latents come back.

        `kept`: where the finished parts of a clip in parts are kept, and are taken up from.
        """
        if plan.parts:
            check_parts(output_type, remove_video_dit)
            return run_parts(plan, partial(self.run, output_type="np"), on_progress, kept, self.ranks)
        small = sum(part.nbytes for part in self.checkpoint.layout.components.values()) < SMALL
        try:
            with self._turn, explaining_memory(self.placement, self.ranks is not None), threads(1 if small else None):
                return self._run(plan, on_progress, output_type, remove_video_dit)
        except PhonofilmError as error:
            if self.ranks is None:
                raise
            raise RankError(str(error)) from error

    @property
    def finishes(self) -> bool:
        """Whether this process puts together and writes what is made."""
        return self.ranks is None or self.ranks.is_first

    def metadata(self, plan: ClipPlan, out: MovaPipelineOutput) -> dict[str, Any]:
        """What the clip says about how it was made, and what it took."""
        counted = {"forwards": out.forwards}
        if plan.sampling.sampling.cache != NO_CACHE:
            counted["steps_skipped"] = out.steps_skipped
        return clip_metadata(plan, self.checkpoint, self.placement) | counted

    def pipeline_with(self, loras: Sequence[LoraUse], on_progress: OnProgress = silent) -> MovaPipeline:
        """The pipeline with exactly these LoRAs, loaded when it is first needed."""
        if self._model is None:
            self._model = load_pipeline(self.checkpoint, self.placement, loras, on_progress, self.ranks)
            self._loaded_with = tuple(loras)
        elif self.ranks is None or not self.ranks.asked.shard_weights:
            use_loras(self._model.pipe, loras)
        elif tuple(loras) != self._loaded_with:
            raise InputError(
                "weights in parts cannot change their LoRAs; leave shard_weights out, or make one run for each"
            )
        return self._model.pipe

    def _run(
        self, plan: ClipPlan, on_progress: OnProgress, output_type: str, remove_video_dit: bool
    ) -> MovaPipelineOutput:
        pipe = self.pipeline_with(plan.loras, on_progress)
        seed = plan.seed if self.ranks is None else self.ranks.agree(plan.seed)
        task = plan.sampling.task
        if task.video is not None or task.audio is not None:
            tracks = [name for name, track in (("picture", task.video), ("sound", task.audio)) if track is not None]
            emit(on_progress, Message(f"encoding the given {' and '.join(tracks)}, then sampling"))
        emit(on_progress, SamplingStarted(plan.sampling.experts))
        times = StepTimes()
        with attention_of(self.placement):
            out = pipe.run(
                plan.sampling,
                generator=torch.Generator().manual_seed(seed),
                output_type=output_type if self.finishes else "latent",
                callback_on_step_end=partial(_on_step, plan, times, Previews(), on_progress),
                remove_video_dit=remove_video_dit,
            )
        if self.ranks is not None and not self.finishes and output_type != "latent":
            with torch.no_grad():
                self.ranks.assist(pipe, out.frames)
        if self.placement.computing.compiles:
            emit(on_progress, Message(times.summary))
        sampling = plan.sampling.sampling
        if sampling.cache != NO_CACHE:
            skipped = f"{out.steps_skipped} of {len(plan.sampling.steps)} steps skipped"
            forwards = f"{out.forwards} of {plan.sampling.forwards} forwards"
            emit(on_progress, Message(f"cache {sampling.cache}: {skipped}, {forwards}"))
        return out


def _on_step(
    plan: ClipPlan,
    times: StepTimes,
    previews: Previews,
    on_progress: OnProgress,
    pipe: MovaPipeline,
    index: int,
    timestep: float,
    tensors: dict[str, Tensor],
) -> dict[str, Tensor]:
    times.step()
    total = len(plan.sampling.steps)
    preview = previews.after(pipe, plan.sampling.steps[index].video, tensors["latents"])
    emit(on_progress, StepDone(index + 1, total, plan.sampling.experts[index], preview))
    if index + 1 == total:
        emit(on_progress, StageStarted("decode picture and sound"))
    return tensors
