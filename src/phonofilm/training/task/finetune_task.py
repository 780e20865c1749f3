"""Fine-tuning as a task for the loop: the joint objective over cached clips, on adapters or whole parts of a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phonofilm.errors import CheckpointError, InputError
from phonofilm.lora.components import SHORT_NAMES
from phonofilm.lora.writing import save_lora
from phonofilm.models.layout import CheckpointLayout
from phonofilm.pipeline.schedule import FlowMatchPairScheduler
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.checkpointing.export_checkpoint import TrainedNetwork, WithoutPrefix, export_checkpoint
from phonofilm.training.checkpointing.snapshot import Snapshot
from phonofilm.training.config.finetune_config import FinetuneConfig, Part, as_plain
from phonofilm.training.config.training_config import ObjectiveConfig
from phonofilm.training.task.adapters import PART_PREFIXES, UP, AdaptedPart, add_adapters, lora_file, part_of, parts_of
from phonofilm.training.task.cached_clips import CachedClips
from phonofilm.training.task.context_parallel import share_clips
from phonofilm.training.task.interface import BatchIndex, RunEnd, TaskLoss
from phonofilm.training.task.joint_task import JointModel, joint_loss
from phonofilm.training.task.timesteps import Expert, expert_positions
from phonofilm.training.task.weight_placement import WeightPlacement

logger = logging.getLogger(__name__)

LORA_FILE, MODEL_FOLDER = "lora.safetensors", "checkpoint"


class FinetuneTask:
    """The parts that are trained, the clips, and whose turn it is. `adapted` says which layers got adapters.

    Raises InputError when the parts and the model, or the parts and the clips, do not go together.
    """

    def __init__(
        self,
        model: JointModel,
        clips: CachedClips,
        config: FinetuneConfig,
        objective: ObjectiveConfig,
        placement: WeightPlacement,
        layout: CheckpointLayout,
    ) -> None:
        self.model, self.clips, self.config, self.placement = model, clips, config, placement
        self.layout = layout
        self.objective = objective
        self._device = torch.device("cpu")
        self._check()
        model.gradient_checkpointing = config.gradient_checkpointing
        model.activation_offload = config.activation_offload
        self.adapted: tuple[AdaptedPart, ...] = ()
        if config.lora is not None:
            self.adapted = add_adapters(model, config.lora, config.seed)
        else:
            model.requires_grad_(False)
            for part, network in parts_of(model).items():
                if part in config.parts:
                    network.requires_grad_(True)

    def rate_scales(self) -> dict[str, float]:
        parts, full = self.config.parts, self.config.optimizer.lr
        rates = {part: section.lr or full for part, section in parts.items()}
        trained = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        return {name: rates[part_of(name)] / full for name in trained}

    def prepare(self, device: torch.device) -> None:
        self._device = device
        if self.config.context_parallel > 1:
            share_clips(self.model, self.config, device)
        self.placement.place(self.model, device)

    def before_training(self, output: Path, step: int) -> None:
        """Make what the run needs besides its clips from update `step` on, and keep it in the run's folder. Every process
        calls it."""

    def loss(self, model: nn.Module, index: BatchIndex) -> TaskLoss:
        size = self.config.batch_size
        expert = self.expert(index.step)
        self.placement.activate(expert)
        batch = self.clips.batch(index.first_draw(size) // size, size, self._device)
        with self._dropout(index):
            return joint_loss(model, self.objective, batch, expert, index)

    @contextmanager
    def _dropout(self, index: BatchIndex) -> Iterator[None]:
        """Adapters' dropout draws from torch's global state: for one forward, that becomes a function of the batch index too."""
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(index.generator(purpose=2).initial_seed())
            yield

    def expert(self, step: int) -> Expert:
        """Whose turn update `step` is: a pure function of the config, the same in every process."""
        config, turn = self.config, step // self.config.turn_updates
        if config.experts == "both-as-one":
            return "both"
        if config.experts == "alternate":
            return "high" if turn % 2 == 0 else "low"
        if config.experts == "weighted":
            share = config.high_share
            if share is None:
                share = expert_positions(self.objective.timesteps, "high")[1]
            generator = torch.Generator().manual_seed((config.seed * 1_000_003 + turn) % 2**61)
            return "high" if float(torch.rand((), generator=generator)) < share else "low"
        return config.experts

    @property
    def together(self) -> bool:
        return self.placement.together or self.config.context_parallel > 1

    @property
    def processes_per_clip(self) -> int:
        return self.config.context_parallel

    @property
    def content(self) -> str:
        return self.clips.content

    def export(self, folder: Path, snapshot: Snapshot) -> None:
        """A LoRA file beside the run's state, in every checkpoint; with a warning for parts that learnt nothing yet."""
        if self.config.lora is None:
            return
        weights = snapshot.average or snapshot.weights
        idle = self.untrained(weights)
        if idle and snapshot.step > 0:
            logger.warning("update %d: nothing learnt yet for %s: not in the LoRA file", snapshot.step, ", ".join(idle))
        if len(idle) < len(self.adapted):
            self.save_adapters(weights, snapshot.step, folder / LORA_FILE)

    def untrained(self, weights: Mapping[str, Tensor]) -> list[Part]:
        """The parts whose every lora_B is still zero: the file would change nothing in them."""
        return [
            adapted.part
            for adapted in self.adapted
            if not any(bool(weights[f"{PART_PREFIXES[adapted.part]}.{layer}{UP}"].any()) for layer in adapted.layers)
        ]

    def save_adapters(self, weights: Mapping[str, Tensor], step: int, path: Path) -> Path:
        """Write these trained weights as a LoRA file that is read back before it counts, without untrained parts.

        Raises CheckpointError when no part is left, and for numbers that are not finite.
        """
        assert self.config.lora is not None
        return save_lora(lora_file(weights, self.config.lora, self.metadata(step)), path, overwrite=True)

    def result(self, weights: Mapping[str, Tensor], end: RunEnd, output: Path) -> Path | None:
        """What the user wanted, in the run's folder: a LoRA file, or a whole checkpoint once the run has finished.

        Raises CheckpointError when a run finished and a part that was to be trained learnt nothing.
        """
        if self.config.lora is None:
            return self._save_checkpoint(weights, output / MODEL_FOLDER) if end.reason == "finished" else None
        idle = self.untrained(weights)
        if idle and end.reason == "finished":
            raise CheckpointError(
                f"{' and '.join(idle)} learnt nothing in {end.step} updates: every lora_B is zero, so no {LORA_FILE} is "
                "written; leave these parts out, train longer, or check that clips have sound"
            )
        return self.save_adapters(weights, end.step, output / LORA_FILE) if len(idle) < len(self.adapted) else None

    def _save_checkpoint(self, weights: Mapping[str, Tensor], folder: Path) -> Path:
        trained = {
            SHORT_NAMES[part]: TrainedNetwork(network, WithoutPrefix(f"{PART_PREFIXES[part]}.", weights))
            for part, network in parts_of(self.model).items()
            if part in self.config.parts
        }
        return export_checkpoint(self.layout, trained, folder, self.scalars())

    def scalars(self) -> dict[str, Any]:
        """What a trained checkpoint's model_index.json says that the base's does not."""
        return {}

    def metadata(self, step: int) -> dict[str, str]:
        """What the LoRA file says about how it was made."""
        about = {"base_model": self.config.model, "steps": str(step), "config_hash": digest(as_plain(self.config))}
        return about if self.config.trigger_word is None else about | {"trigger_word": self.config.trigger_word}

    def _check(self) -> None:
        two = self.model.low is not None
        if two == (self.config.experts == "both-as-one"):
            raise InputError(
                f"experts is {self.config.experts} and the checkpoint has {'two experts' if two else 'one expert'}; "
                + ("use alternate, weighted, high or low" if two else "set experts=both-as-one")
            )
        if self.config.objective.audio_weight == 0 and "audio" in self.config.parts:
            raise InputError("objective.audio_weight is 0 and the audio part is to be trained; drop one of the two")
        self._check_sound()

    def _check_sound(self) -> None:
        deaf = [part for part in ("audio", "bridge") if part in self.config.parts]
        if deaf and not self.clips.any_sound:
            raise InputError(f"no clip has sound, so {' and '.join(deaf)} would learn nothing; train video parts alone")


def checkpoint_objective(config: FinetuneConfig, layout: CheckpointLayout) -> ObjectiveConfig:
    """The objective with the checkpoint's own table of timesteps and boundary; shifts are its own unless given."""
    scheduler, given = FlowMatchPairScheduler(**layout.scheduler_config).config, config.objective.timesteps
    shifts = {
        name: getattr(given, name) if name in given.model_fields_set else scheduler["shift"]
        for name in ("video_shift", "audio_shift")
    }
    timesteps = given.model_copy(
        update={
            **shifts,
            "train_steps": scheduler["num_train_timesteps"],
            "sigma_min": scheduler["sigma_min"],
            "extra_one_step": scheduler["extra_one_step"],
            "boundary_ratio": layout.scalars.boundary_ratio,
        }
    )
    return config.objective.model_copy(update={"timesteps": timesteps})
