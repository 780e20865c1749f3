"""How the layers compute: kernels, weights of fewer bits, compilation."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phonofilm.errors import InputError
from phonofilm.generation.report import Message, emit

if TYPE_CHECKING:
    import torch

    from phonofilm.generation.checkpoint import Checkpoint
    from phonofilm.generation.report import OnProgress
    from phonofilm.kernels.choice import Kernels
    from phonofilm.pipeline.mova import MovaPipeline


@dataclass(frozen=True)
class Computing:
    """kernels: "eager" or "triton". quantize: "fp8", "int8", "nf4" or None. compiles: whether layers are compiled."""

    kernels: Kernels = "eager"
    quantize: str | None = None
    compiles: bool = False

    @property
    def summary(self) -> str:
        """What differs from plain computing, for the plan's line; empty when nothing does."""
        parts = [f"kernels {self.kernels}"] if self.kernels != "eager" else []
        parts += [f"weights {self.quantize} (lossy)"] if self.quantize else []
        return ", ".join([*parts, "compiled"] if self.compiles else parts)


def choose_computing(
    kernels: str, quantize: str | None, compiles: bool, device: torch.device, offload: str
) -> Computing:
    """What these words mean on `device`. Raises InputError for a word that is unknown, or what cannot be done here."""
    from phonofilm.kernels.choice import choose_kernels
    from phonofilm.models.compiling import require_compiler
    from phonofilm.models.quantized import check_quantization

    chosen = choose_kernels(kernels, device)
    if offload == "group":  # its hooks bring a weight when its own module is called; a fused kernel reads it without
        if kernels == "triton" or compiles or quantize:
            raise InputError("offload=group works with none of kernels=triton, quantize and compile; use offload=layer")
        chosen = "eager"
    if quantize is not None:
        check_quantization(quantize)
    if compiles:
        require_compiler(device)
    return Computing(chosen, quantize, compiles)


def check_computing(computing: Computing, offload: str, checkpoint: Checkpoint) -> None:
    """Raises InputError when this checkpoint cannot be quantised on the way, given where its weights wait."""
    from phonofilm.models.quantized import CONFIG_KEY

    if computing.quantize is None:
        return
    stored = checkpoint.layout.components["video_dit"].config.get(CONFIG_KEY)
    if stored is not None:
        raise InputError(
            f"{checkpoint.portable_name} is quantised already ({stored['format']}); leave out quantize={computing.quantize}"
        )
    if offload == "layer":
        raise InputError(
            "layers that are streamed are quantised beforehand: "
            f"phonofilm quantize --model {checkpoint.name} --to {computing.quantize} -o FOLDER, then model=FOLDER"
        )


def prepare_computing(
    pipe: MovaPipeline, computing: Computing, device: torch.device | None, on_progress: OnProgress
) -> None:
    """Quantise, choose kernels, compile. `device`: where a pipeline goes once quantised, if it was loaded on the host."""
    from phonofilm.kernels.choice import use_kernels
    from phonofilm.models.compiling import compile_layers
    from phonofilm.models.quantized import QUANTIZED_COMPONENTS
    from phonofilm.pipeline.quantizing import quantize_pipeline

    if computing.quantize is not None:
        reports = quantize_pipeline(pipe, computing.quantize)
        worst = max(reports.values(), key=lambda one: one.error)
        before, after = (
            sum(getattr(one, name) for one in reports.values()) for name in ("bytes_before", "bytes_after")
        )
        text = (
            f"{computing.quantize}: weights of towers and bridge from {before / 1e6:,.0f} to {after / 1e6:,.0f} MB, "
            f"relative error of a network's weights at most {worst.error:.4f}"
        )
        emit(on_progress, Message(text))
        if device is not None:
            pipe.to(device)
    networks = [one for name in QUANTIZED_COMPONENTS if (one := getattr(pipe, name)) is not None]
    for network in networks:
        use_kernels(network, computing.kernels)
    if computing.compiles:
        compile_layers(networks)


@dataclass
class StepTimes:
    """Seconds of each step of one clip. The first one contains compilation."""

    _last: float = field(default_factory=time.perf_counter)
    seconds: list[float] = field(default_factory=list)

    def step(self) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now

    @property
    def summary(self) -> str:
        """Cold and warm times in words."""
        first, *rest = self.seconds
        later = f", then {statistics.median(rest):.3g} s a step" if rest else ""
        return f"compiled layers: first step {first:.3g} s{later}"
