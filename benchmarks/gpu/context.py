"""What the stages share: the device, the model's weights where the last stage left them, and what a step must answer."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.contestants import HOST
from benchmarks.gpu.worker import Job
from benchmarks.sizes import SIZES
from benchmarks.timing import forget_peak
from benchmarks.workload import Workload, make_workload

# The clip, and one too short to hide the copies of its layers.
CLIPS = {"360p": ("360p", "360p-17"), "720p": ("720p", "720p-17"), "tiny": ("micro", "micro-short")}


@dataclass(frozen=True)
class VideoShape:
    """The video tower's: tokens of the clip, width, width of its feed-forward, heads."""

    tokens: int
    width: int
    wide: int
    heads: int


class Context:
    """Handed to every stage. `stage` is the one that runs."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.device = torch.device("cuda", 0) if job.device == "cuda" else HOST
        if self.on_gpu:
            torch.cuda.set_device(self.device)
        self.dtype = torch.bfloat16 if self.on_gpu else torch.float32
        self.size, self.short = (SIZES[name] for name in CLIPS[job.size])
        self.stage = ""
        gc.freeze()  # what the imports made stays: each collection between two measurements would look through it
        self._workload: Workload | None = None

    @property
    def on_gpu(self) -> bool:
        return self.job.device == "cuda"

    @property
    def tiny(self) -> bool:
        """Whether this run only tries the stages."""
        return self.job.size == "tiny"

    @property
    def way(self) -> str:
        """How steps compute by default, in a row's words. Triton's interpreter would take a host minutes for one."""
        return "fused" if self.on_gpu else "eager"

    @cached_property
    def shape(self) -> VideoShape:
        config = self.size.shapes().video.config
        return VideoShape(math.prod(self.size.grid), config["dim"], config["ffn_dim"], config["num_heads"])

    def begin(self, stage: str) -> None:
        """Called before each stage."""
        self.stage = stage
        forget_peak(self.device)

    def row(self, what: str, figures: Mapping[str, object]) -> None:
        """Write a row of the stage that runs."""
        self.job.add(self.stage, {"what": what, **figures})

    def workload(self, home: torch.device) -> Workload:
        """The model with its weights in the memory of `home`, and a step of the clip. Made anew when they lie elsewhere."""
        if self._workload is None or next(self._workload.denoiser.parameters()).device != home:
            self.drop()
            self._workload = make_workload(self.size, self.device, self.dtype, weights_on=home)
        return self._workload

    def drop(self) -> None:
        """Give the weights' memory back."""
        self._workload = None
        forget_peak(self.device)

    def keep_answer(self, way: str, velocities: list[Tensor]) -> None:
        """What a step answers when it is computed one way, for other ways to be compared with."""
        torch.save(velocities, self.job.scratch / f"{way}.pt")

    def answer(self, way: str) -> list[Tensor] | None:
        """What `keep_answer` kept, in whichever worker; None if that stage did not run."""
        path = self.job.scratch / f"{way}.pt"
        kept: list[Tensor] | None = torch.load(path, weights_only=True) if path.exists() else None
        return kept

    def recover(self) -> bool:
        """Give back what a stage left; False when the device does not answer any more."""
        try:
            gc.collect()
            if self.on_gpu:
                torch.cuda.synchronize(self.device)
                torch.cuda.empty_cache()
        except RuntimeError:
            return False
        return True
