"""The config of a training run. Every key is checked and an unknown one is an error; nothing here computes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
JointPart = Literal["video", "audio", "bridge", "text"]
Modality = Literal["video", "audio"]
MODALITIES: tuple[Modality, ...] = ("video", "audio")
Precision = Literal["auto", "no", "bf16", "fp16", "bf16-products"]
OptimizerName = Literal["adamw", "muon", "adamw8bit", "adafactor", "prodigy"]
ExpertMode = Literal["both-as-one", "high", "low", "alternate"]
JOINT_PARTS: tuple[JointPart, ...] = ("video", "audio", "bridge", "text")


class Strict(BaseModel):
    """A frozen section in which an unknown key is an error, and so is NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TimestepConfig(Strict):
    """How the two sigmas of a sample are drawn.

    `shared`: one position for both tracks, uniform in index over the shifted table, as the released trainer.
    `independent`: one position per track, each continuous in [0, 1) and put through its own shift, as the paper.
    Table, `sigma_min` and `extra_one_step` are the scheduler's, and so is the boundary between the experts.
    The density is that of the position p (0 = pure noise): uniform, logit-normal or SD3's mode density.
    """

    mode: Literal["shared", "independent"] = "shared"
    density: Literal["uniform", "logit_normal", "mode"] = "uniform"
    video_shift: Positive = 5.0
    audio_shift: Positive = 5.0
    logit_mean: float = 0.0
    logit_std: Positive = 1.0
    mode_scale: Annotated[float, Field(gt=-1.0, le=1.75)] = 1.0
    train_steps: Annotated[int, Field(ge=2)] = 1000
    sigma_min: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.003 / 1.002
    extra_one_step: bool = True
    boundary_ratio: Probability = 0.9


class ObjectiveConfig(Strict):
    """The loss, and what is hidden from the model at random so that every way of sampling it is in distribution.

    `hold_video`, `hold_audio`: shares of samples in which that track is given clean at its own timestep 0 and only the
    other one is learnt. `unconditional_dropout` hides caption and bridge together (the first forward of dual CFG), on
    top of `caption_dropout` and `bridge_dropout`, which are drawn each for itself.
    """

    timesteps: TimestepConfig = TimestepConfig()
    video_weight: Annotated[float, Field(ge=0.0)] = 1.0
    audio_weight: Annotated[float, Field(ge=0.0)] = 1.0
    hold_video: Probability = 0.0
    hold_audio: Probability = 0.0
    caption_dropout: Probability = 0.1
    first_frame_dropout: Probability = 0.0
    bridge_dropout: Probability = 0.0
    unconditional_dropout: Probability = 0.0

    @model_validator(mode="after")
    def _tracks_left_to_learn(self) -> Self:
        if self.hold_video + self.hold_audio > 1:
            raise ValueError("hold_video + hold_audio is above 1; a sample can have only one track held")
        if self.video_weight == 0 and self.audio_weight == 0:
            raise ValueError("video_weight and audio_weight are both 0; nothing would be learnt")
        return self


def learnt_modalities(objective: ObjectiveConfig) -> frozenset[Modality]:
    """Those whose loss has a weight."""
    weights = (objective.video_weight, objective.audio_weight)
    return frozenset(name for name, weight in zip(MODALITIES, weights, strict=True) if weight)


class OptimizerConfig(Strict):
    """One optimizer for everything; of muon's, AdamW takes what is no matrix inside a block.

    adamw8bit keeps its moments in 8 bits (bitsandbytes, on a GPU); adafactor keeps row and column sums instead of second
    moments (transformers); prodigy finds its own rate, so give it lr 1 (prodigyopt).
    `lr` is AdamW's, `muon_lr` Muon's (of an orthogonal update, so about ten times larger); `scale` multiplies both per
    component. `eps` is what an update's divisor is at least, so gradients far below it make small steps (not adafactor).
    Weight decay acts on matrices only. `warmup` is in updates; `final` is the share of the rate that is left when a
    cosine or linear schedule ends.
    """

    name: OptimizerName = "adamw"
    lr: Positive = 1e-3
    muon_lr: Positive = 0.02
    betas: tuple[Probability, Probability] = (0.9, 0.99)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.001
    momentum: Probability = 0.95
    scale: dict[JointPart, Positive] = {}
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 50
    final: Probability = 0.02
    clip_norm: Positive | None = 1.0


class LoopConfig(Strict):
    """Everything about the loop that does not depend on what is trained.

    A run ends at `max_steps` optimizer updates or after `budget_seconds` of training time (kept over resumes),
    whichever comes first; the schedule follows the nearer of the two. `batch_size` is per process and per
    micro-step, `accumulate` the micro-steps in one update. All `*_every` count updates, 0 = never. `precision` is
    autocast's, for a GPU; `bf16-products` is for a CPU with bfloat16 instructions (without them it is 70 times slower than
    float32); `auto` takes the one that is fast on the device. Weights are float32 in any case.
    `patience`: after so many validations in a row without a new best, a modality stops learning: its loss no longer
    counts and its tower rests. The run ends when none is left.
    """

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    batch_size: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    max_steps: Annotated[int, Field(ge=1)] | None = None
    budget_seconds: Positive | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    device: Literal["auto", "cpu"] = "auto"
    precision: Precision = "no"
    log_every: Annotated[int, Field(ge=1)] = 20
    checkpoint_every: Annotated[int, Field(ge=0)] = 200
    keep_last: Annotated[int, Field(ge=1)] = 2
    tensorboard: bool = False
    wandb: Literal["off", "offline", "online"] = "off"
    patience: dict[Modality, Annotated[int, Field(ge=1)]] = {}

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.max_steps is None and self.budget_seconds is None:
            raise ValueError("a run needs an end: set max_steps, budget_seconds or both")
        return self

    @property
    def modalities(self) -> frozenset[Modality]:
        """Those whose loss counts at the start of the run."""
        return frozenset(MODALITIES)


class JointConfig(LoopConfig):
    """Training of the two towers and the bridge, with the text encoder when `train` names it.

    `experts`: `both-as-one` trains one video tower on all sigmas, `high` and `low` one of two on its part,
    `alternate` both in turn (high on even updates); audio tower and bridge learn on every update.
    """

    experts: ExpertMode = "both-as-one"
    train: tuple[JointPart, ...] = JOINT_PARTS
    objective: ObjectiveConfig = ObjectiveConfig()
    gradient_checkpointing: bool = False

    @property
    def modalities(self) -> frozenset[Modality]:
        return learnt_modalities(self.objective)

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if not self.train:
            raise ValueError(f"train is empty; name at least one of {', '.join(JOINT_PARTS)}")
        return self
