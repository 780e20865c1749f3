"""Joint training of picture and sound: the towers, the bridge and, if wanted, the text encoder, from cached latents."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from transformers import UMT5EncoderModel

from phonofilm.errors import InputError
from phonofilm.models.joint import JointDenoiser, JointOutput, Positions, fold_text_padding
from phonofilm.training.checkpointing.digest import digest
from phonofilm.training.checkpointing.snapshot import Snapshot
from phonofilm.training.config.training_config import ExpertMode, JointConfig, ObjectiveConfig
from phonofilm.training.loop.metrics_log import SumAndCount
from phonofilm.training.loop.optimizers import joint_part_of
from phonofilm.training.loop.trainer import Trainer
from phonofilm.training.task.interface import BatchIndex, Hook, RunEnd, TaskLoss
from phonofilm.training.task.latent_dataset import EncodedPrompts, LatentDataset, ShuffledOrder, TokenPrompts
from phonofilm.training.task.objective import Sample, draw, noised, still_learnt, velocity_loss
from phonofilm.training.task.timesteps import Expert

logger = logging.getLogger(__name__)

BUCKETS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class JointInputs:
    """One forward's inputs: noised latents, sigmas [b] and bridge scale [b] on the host, prompts, the clips' frame rate."""

    video: Tensor
    audio: Tensor
    video_sigma: Tensor
    audio_sigma: Tensor
    bridge_scale: Tensor
    prompts: TokenPrompts | EncodedPrompts
    frame_rate: float


class JointModel(nn.Module):
    """The modules trained together. With two experts, both denoisers hold the same audio tower and bridge.

    Without a text encoder it takes prompts that are encoded already.
    """

    def __init__(
        self, high: JointDenoiser, low: JointDenoiser | None, text: UMT5EncoderModel | None, text_length: int = 512
    ) -> None:
        super().__init__()
        if low is not None and (low.audio is not high.audio or low.bridge is not high.bridge):
            raise InputError("the two experts must share one audio tower and one bridge; see clone_expert")
        self.high = high
        self.low = low
        self.text = text
        self.text_length = text_length
        self.gradient_checkpointing = False
        self.activation_offload = False
        self._positions: dict[tuple[object, ...], Positions] = {}
        self.train()

    def train(self, mode: bool = True) -> JointModel:
        """As ever, but the text encoder stays in eval mode: its dropout would corrupt the prompts. It still learns."""
        super().train(mode)
        if self.text is not None:
            self.text.eval()
        return self

    def encode(self, prompts: TokenPrompts | EncodedPrompts) -> tuple[Tensor, Tensor]:
        """Text embeddings [b,l,d] and the bias [b,l] that makes l positions weigh as `text_length` zero-padded ones."""
        if isinstance(prompts, EncodedPrompts):
            return fold_text_padding(prompts.embeds, prompts.lengths, self.text_length)
        if self.text is None:
            raise InputError("this model has no text encoder; give it prompts that are encoded already")
        mask = (torch.arange(prompts.tokens.shape[1]) < prompts.lengths[:, None]).to(prompts.tokens.device)
        hidden = self.text(input_ids=prompts.tokens, attention_mask=mask.long()).last_hidden_state
        return fold_text_padding(hidden * mask[..., None], prompts.lengths, self.text_length)

    def forward(self, inputs: JointInputs, expert: Expert) -> JointOutput:
        denoiser = self.high if expert != "low" or self.low is None else self.low
        text, bias = self.encode(inputs.prompts)
        whole = bool((inputs.bridge_scale == 1).all())
        learning = torch.is_grad_enabled()
        offloading = self.activation_offload and learning
        kept = save_on_cpu(pin_memory=inputs.video.is_cuda) if offloading else nullcontext()
        with kept:
            output: JointOutput = denoiser(
                inputs.video,
                inputs.audio,
                1000 * inputs.video_sigma,
                1000 * inputs.audio_sigma,
                text,
                inputs.frame_rate,
                text_bias=bias,
                bridge_scale=1.0 if whole else inputs.bridge_scale.to(inputs.video.device),
                positions=self.places(denoiser, inputs.video, inputs.audio, inputs.frame_rate),
                gradient_checkpointing=self.gradient_checkpointing and learning,
            )
        return output

    def places(self, denoiser: JointDenoiser, video: Tensor, audio: Tensor, frame_rate: float) -> Positions:
        """Token positions for one of the experts, which depend on shapes and frame rate alone and so are made once for each.

        video [b,c,f,h,w] and audio [b,c,t] are latents.
        """
        shape, device = video.shape[2:], video.device
        pt, ph, pw = denoiser.video.patch_size
        grid = (shape[0] // pt, shape[1] // ph, shape[2] // pw)
        audio_tokens = audio.shape[-1] // denoiser.audio.patch_size
        key = (grid, audio_tokens, frame_rate, device)
        if key not in self._positions:
            self._positions[key] = denoiser.positions(grid, audio_tokens, frame_rate, device)
        return self._positions[key]


def clone_expert(denoiser: JointDenoiser) -> JointDenoiser:
    """A second expert that starts as a copy of the first one's video tower and shares its audio tower and bridge."""
    return JointDenoiser(copy.deepcopy(denoiser.video), denoiser.audio, denoiser.bridge)


def expert_at(mode: ExpertMode, step: int) -> Expert:
    """Whose turn it is at update `step`."""
    if mode == "alternate":
        return "high" if step % 2 == 0 else "low"
    return "both" if mode == "both-as-one" else mode


class JointTask:
    """The joint objective over a folder of latents, as a task for the loop."""

    def __init__(self, model: JointModel, dataset: LatentDataset, config: JointConfig) -> None:
        two = model.low is not None
        if two == (config.experts == "both-as-one"):
            has = "two experts" if two else "one expert"
            raise InputError(
                f"experts is {config.experts!r} and the model has {has}; clone_expert makes the second one"
            )
        self.model = model
        self.dataset = dataset
        self.config = config
        self._order = ShuffledOrder(len(dataset), config.seed)
        self._device = torch.device("cpu")
        model.gradient_checkpointing = config.gradient_checkpointing
        idle = {"high": "low", "low": "high"}.get(config.experts)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(joint_part_of(name) in config.train and not name.startswith(f"{idle}.video."))

    def rate_scales(self) -> dict[str, float]:
        scale = self.config.optimizer.scale
        return {name: scale.get(joint_part_of(name), 1.0) for name, _ in self.model.named_parameters()}

    def prepare(self, device: torch.device) -> None:
        self._device = device
        self.model.to(device)
        if device.type != "cpu":
            self.dataset.to(device)

    @property
    def together(self) -> bool:
        return False

    @property
    def processes_per_clip(self) -> int:
        return 1

    @property
    def content(self) -> str:
        arrays = self.dataset.arrays
        return digest([arrays["tokens"], arrays["lengths"], arrays["has_audio"], list(arrays["video"].shape)])

    def export(self, folder: Path, snapshot: Snapshot) -> None:
        """Nothing: the trained weights are the whole of it."""

    def loss(self, model: nn.Module, index: BatchIndex) -> TaskLoss:
        count = self.config.batch_size
        rows = self._order.rows(index.first_draw(count), count)
        batch = Batch(
            self.dataset.sample(rows, self._device),
            lambda keep: hidden_prompts(self.dataset, rows, keep, self._device),
            self.dataset.meta.frame_rate,
            tuple(f"clip {row}" for row in rows.tolist()),
        )
        return joint_loss(model, self.config.objective, batch, expert_at(self.config.experts, index.step), index)


@dataclass(frozen=True)
class Batch:
    """One micro-batch of clips. `prompts(keep)`: their prompts, those not in `keep` [b] replaced by the empty one."""

    sample: Sample
    prompts: Callable[[Tensor], TokenPrompts | EncodedPrompts]
    frame_rate: float
    names: tuple[str, ...] = ()


def joint_loss(
    model: nn.Module, objective: ObjectiveConfig, batch: Batch, expert: Expert, index: BatchIndex
) -> TaskLoss:
    """The joint objective over one micro-batch, with all its randomness from the batch index."""
    sample = batch.sample
    drawn = draw(objective, sample, expert, index.generator(purpose=0), index.generator(1, device=sample.video.device))
    target = noised(sample, drawn)
    inputs = JointInputs(
        target.video,
        target.audio,
        drawn.video_sigma,
        drawn.audio_sigma,
        drawn.bridge_scale,
        batch.prompts(drawn.keep_caption),
        batch.frame_rate,
    )
    output = model(inputs, expert)
    losses = velocity_loss(still_learnt(objective, index.halted), output.video, output.audio, target, drawn)
    tracks = {
        "video": TrackErrors(losses.video, drawn.video_sigma, drawn.learn_video),
        "audio": TrackErrors(losses.audio, drawn.audio_sigma, drawn.learn_audio),
    }
    return TaskLoss(losses.total, lambda: loss_report(expert, tracks), batch.names)


@dataclass(frozen=True)
class TrackErrors:
    """One modality's squared errors of a micro-batch, at which sigmas, and which of them were learnt from: all [b]."""

    errors: Tensor
    sigma: Tensor
    learn: Tensor


def hidden_prompts(dataset: LatentDataset, rows: Tensor, keep: Tensor, device: torch.device) -> TokenPrompts:
    """The prompts of these rows, those not in `keep` [b] replaced by the empty one."""
    prompts, empty = dataset.prompts(rows, device), dataset.empty_prompt(device)
    lengths = torch.where(keep, prompts.lengths, empty.lengths)
    longest = int(lengths.max())
    tokens = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
    for source, chosen in ((prompts, keep), (empty, ~keep)):
        width = min(longest, source.tokens.shape[1])
        where = chosen.to(device)[:, None]
        tokens[:, :width] = torch.where(where, source.tokens[:, :width], tokens[:, :width])
    return TokenPrompts(tokens, lengths)


def loss_report(expert: Expert, tracks: dict[str, TrackErrors]) -> dict[str, SumAndCount]:
    """Sums and counts by modality, and by expert, modality and sigma bucket, over the samples that were learnt from."""
    report: dict[str, SumAndCount] = {}
    for modality, track in tracks.items():
        errors = track.errors.cpu() * track.learn
        report[f"loss/{modality}"] = (float(errors.sum()), float(track.learn.sum()))
        for low, high in itertools.pairwise(BUCKETS):
            inside = track.learn * ((track.sigma >= low) & ((track.sigma < high) | (high == BUCKETS[-1])))
            if inside.any():
                name = f"loss/{expert}/{modality}/{low:.2f}-{high:.2f}"
                report[name] = (float((errors * inside).sum()), float(inside.sum()))
    return report


def train_joint(
    model: JointModel,
    dataset: LatentDataset,
    config: JointConfig,
    folder: Path,
    hooks: Sequence[Hook] = (),
    *,
    resume: bool = False,
    allow: Sequence[str] = (),
    until: int | None = None,
) -> RunEnd:
    """Train `model` in place into the run folder; on return it holds the averaged weights if the config asks for an average.

    `resume` goes on from the folder's latest checkpoint, refusing a config changed in a key that `allow` does not
    name; `until` stops early, with a checkpoint, at that total number of updates.
    """
    trainer = Trainer(JointTask(model, dataset, config), config, folder, hooks)
    if resume:
        trainer.resume(allow)
    end = trainer.run(until)
    trainer.adopt_average()
    return end
