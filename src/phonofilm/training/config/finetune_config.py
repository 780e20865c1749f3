"""The config of a fine-tuning: the whole of its YAML. Unknown keys, and keys that would be ignored, are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from phonofilm.training.config.config_lint import ignored_keys
from phonofilm.training.config.distill_config import DistillConfig
from phonofilm.training.config.training_config import (
    LoopConfig,
    Modality,
    ObjectiveConfig,
    Positive,
    Precision,
    Probability,
    Strict,
    learnt_modalities,
)
from phonofilm.training.config.watch_config import SamplesConfig, ValidationConfig

Part = Literal["high", "low", "audio", "bridge"]
HELD_WITHOUT_CLIPS = (
    "objective.hold_video and hold_audio hold a clip's own track, and there are captions alone; give clips with --data, or "
    "set both to 0"
)
FINETUNE_PARTS: tuple[Part, ...] = ("high", "low", "audio", "bridge")
FinetuneExperts = Literal["both-as-one", "high", "low", "alternate", "weighted"]


class SetConfig(Strict):
    """A folder or manifest of clips, and how often an epoch shows each of its windows."""

    path: Path
    weight: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0


class DataConfig(Strict):
    """Which clips are learnt and how windows are cut from them; docs/data.md explains each key.

    `cache`: the folder of encoded clips; by default `cache` in the run's folder. With `sets` it is brought up to date
    before training; without them it is used as it is, and no encoder is loaded. `silent`: whether clips without sound are
    masked out of the audio loss or refused. `buckets`: height x width x frames; by default the checkpoint's own size.
    """

    sets: tuple[SetConfig, ...] = ()
    cache: Path | None = None
    buckets: tuple[str, ...] = ()
    frame_rate: str = "24"
    windows: Literal["head", "random", "several"] = "head"
    count: Annotated[int, Field(ge=1)] = 1
    seed: int = 0
    silent: Literal["mask", "refuse"] = "mask"


class AdapterConfig(Strict):
    """The adapters of one part. `lr`: instead of `optimizer.lr`; `ffn`: feed-forward layers too, where the part has them."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Positive = 16.0
    lr: Positive | None = None
    ffn: bool = False


class LoraConfig(Strict):
    """Which parts get adapters. A part that is null, or left out, is not trained."""

    high: AdapterConfig | None = None
    low: AdapterConfig | None = None
    audio: AdapterConfig | None = None
    bridge: AdapterConfig | None = None
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class WholeConfig(Strict):
    """One part trained whole. `lr`: instead of `optimizer.lr`."""

    lr: Positive | None = None


class FullConfig(Strict):
    """Which parts are trained whole. A part that is null, or left out, is not trained."""

    high: WholeConfig | None = None
    low: WholeConfig | None = None
    audio: WholeConfig | None = None
    bridge: WholeConfig | None = None


class FinetuneConfig(LoopConfig):
    """A fine-tuning of any checkpoint, either of adapters (`lora`) or of whole weights (`full`).

    Attributes:
        mode: who holds the base weights: accelerate keeps them on the device, the active expert alone; low_resource
            streams them layer by layer; fsdp shards them over devices.
        model: checkpoint folder, hub id, nano, 360p or 720p.
        experts: whose turn it is. alternate: high on even turns. weighted: drawn, high with the share `high_share` (by
            default its share of the timesteps). high, low: that one alone. both-as-one: a checkpoint of one expert.
        turn_updates: updates in one turn.
        base_dtype: of the frozen weights; auto is bfloat16 on a GPU and float32 on a CPU. Trained weights are float32.
        quantize: the format in which frozen linear layers are kept (lossy: it learns against the rounded weights).
            Norms, modulation, embeddings, heads and biases stay in base_dtype.
        activation_offload: what gradient checkpointing keeps waits in host memory.
        context_parallel: processes that share one clip, for clips that are too long for one device.
        ulysses_degree: how many of them deal attention's heads among themselves; the others pass keys and values round in a
            ring. By default as many as the heads allow.
        trigger_word: put at the beginning of every caption that does not say it, and written into the LoRA file.
        distill: instead of learning clips, learn to do in a few steps what the checkpoint does in many. `objective` then
            keeps its weights, its shifts (the student's grid), hold_video, hold_audio and first_frame_dropout (the share of
            text alone).
        samples, validation: what is looked at while it trains.
    """

    mode: Literal["low_resource", "accelerate", "fsdp"] = "accelerate"
    model: str = "360p"
    data: DataConfig = DataConfig()
    lora: LoraConfig | None = None
    full: FullConfig | None = None
    distill: DistillConfig | None = None
    experts: FinetuneExperts = "alternate"
    high_share: Probability | None = None
    turn_updates: Annotated[int, Field(ge=1)] = 1
    objective: ObjectiveConfig = ObjectiveConfig()
    gradient_checkpointing: bool = True
    activation_offload: bool = False
    context_parallel: Annotated[int, Field(ge=1)] = 1
    ulysses_degree: Annotated[int, Field(ge=1)] | None = None
    precision: Precision = "auto"
    base_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantize: Literal["fp8", "int8", "nf4"] | None = None
    trigger_word: str | None = None
    samples: SamplesConfig = SamplesConfig()
    validation: ValidationConfig = ValidationConfig()

    @field_validator("samples", "validation", mode="before")
    @classmethod
    def _null_is_never(cls, value: Any) -> Any:
        return {"every": 0} if value is None else value

    @property
    def modalities(self) -> frozenset[Modality]:
        return learnt_modalities(self.objective)

    @property
    def parts(self) -> dict[Part, AdapterConfig | WholeConfig]:
        """The parts that are trained, with their settings."""
        section = self.lora if self.lora is not None else self.full
        return {part: settings for part in FINETUNE_PARTS if (settings := getattr(section, part)) is not None}

    @model_validator(mode="after")
    def _one_way_to_train(self) -> Self:
        if (self.lora is None) == (self.full is None):
            raise ValueError("give either lora or full: adapters, or whole weights")
        if not self.parts:
            raise ValueError(f"nothing would be trained; name one at least of {', '.join(FINETUNE_PARTS)}")
        if self.trigger_word is not None and (not self.trigger_word.strip() or "\n" in self.trigger_word):
            raise ValueError(
                "trigger_word is empty or has several lines; give one that stands in a caption, or leave it out"
            )
        if self.activation_offload and not self.gradient_checkpointing:
            raise ValueError("activation_offload needs gradient_checkpointing: it moves what that keeps")
        if self.full is not None and self.base_dtype not in ("auto", "float32"):
            raise ValueError(f"base_dtype {self.base_dtype} with full: weights that are trained are float32")
        if self.quantize is not None and self.full is not None:
            raise ValueError("quantize with full: weights that are trained are float32; use lora")
        if self.quantize is not None and self.mode == "fsdp":
            raise ValueError(
                "quantize with mode fsdp: quantised weights cannot be cut up; use accelerate or low_resource"
            )
        if self.mode == "low_resource" and self.full is not None:
            raise ValueError("mode low_resource streams frozen weights, and full trains them; use lora, or mode fsdp")
        if self.mode == "fsdp" and self.full is not None:
            if self.optimizer.name != "adamw":
                raise ValueError(
                    f"optimizer.name {self.optimizer.name} with full in mode fsdp: it needs whole weights; use adamw"
                )
            if self.precision == "fp16":
                raise ValueError("precision fp16 with full in mode fsdp: parts of gradients are not scaled; use bf16")
        if self.mode == "low_resource" and not self.gradient_checkpointing:
            raise ValueError(
                "mode low_resource needs gradient_checkpointing: a streamed layer is gone when its turn is over"
            )
        if self.context_parallel > 1 and self.lora is not None and self.lora.dropout:
            raise ValueError(
                "lora.dropout with context_parallel: processes that share a clip must drop the same of its sound, and "
                "each has other tokens of its picture; set lora.dropout=0"
            )
        if self.distill is not None:
            self._check_distillation(self.distill)
        elif not self.data.sets and self.data.cache is None:
            raise ValueError("no data was given; name a folder of clips with --data, or a cache with data.cache=DIR")
        return self

    def _check_distillation(self, distill: DistillConfig) -> None:
        if distill.captions is not None and self.data.sets:
            raise ValueError("distill.captions and --data were both given; give captions, or clips that have them")
        if distill.captions is not None and (self.objective.hold_video or self.objective.hold_audio):
            raise ValueError(HELD_WITHOUT_CLIPS)
        if distill.captions is not None and len(self.data.buckets) > 1:
            raise ValueError(
                f"data.buckets has {len(self.data.buckets)} sizes, and captions are learnt at one size, for no clip has a "
                "shape of its own to choose by; give one"
            )
        if distill.captions is None and not self.data.sets and self.data.cache is None:
            raise ValueError(
                "nothing to distill from was given; name a file of captions with distill.captions=FILE, a folder of clips "
                "with --data, or a cache with data.cache=DIR"
            )
        if self.full is not None and self.mode == "fsdp":
            raise ValueError("distill with full in mode fsdp: whole weights need a second copy, the teacher; use lora")
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                "lora.dropout with distill: the student must go the way it will go later; set lora.dropout=0"
            )
        if self.trigger_word is not None:
            raise ValueError("trigger_word with distill: nothing new is learnt that a word could call; leave it out")
        if self.context_parallel > 1 and self.lora is None:
            raise ValueError("context_parallel with distill and full: the teacher would compute alone; use lora")

    @model_validator(mode="after")
    def _nothing_ignored(self, info: ValidationInfo) -> Self:
        # A saved config names every key, so none of them says anything by being there.
        if info.context and info.context.get("saved"):
            return self
        if ignored := ignored_keys(self):
            raise ValueError("; ".join(f"{key} would be ignored: {why}" for key, why in ignored.items()))
        return self


def as_plain(config: FinetuneConfig) -> dict[str, Any]:
    """What was given, without defaults: the content of a YAML file that means the same run."""
    return config.model_dump(mode="json", exclude_unset=True)
