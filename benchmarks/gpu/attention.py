"""Every attention backend that is installed, over the clip's own tokens: speed, error, and what it does to both tracks."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn
from torch import Tensor

from benchmarks.contestants import Ours
from benchmarks.gpu.context import Context
from benchmarks.timing import forget_peak, median_seconds, timed
from benchmarks.workload import EVALUATIONS, Workload, relative_errors, velocities
from phonofilm.models.joint import JointOutput

REPEATS = 4
FAR_BEHIND = 2.0
"""Times the fastest one's seconds: a whole forward by a slower one would cost more than it tells."""
CHECKED = 256
"""Queries whose answers are compared with float32's."""
NOT_TRIED = ("hub", "math", "flex")
"""Words in the names of backends that are downloaded when they are used, or keep all scores in memory."""


@torch.no_grad()
def candidates(context: Context) -> None:
    """First the attention alone, by each; then one forward of the whole model by those that are not far behind."""
    usable, missing = _installed()
    context.row("not here", {"backends": missing})
    alone = {name: seconds for name in usable if (seconds := _alone(context, name)) is not None}
    work = context.workload(context.device)
    work = replace(work, conditionings=work.conditionings[:1])
    for name, seconds in alone.items():
        if seconds <= FAR_BEHIND * min(alone.values()):
            _whole(context, work, name)


def _installed() -> tuple[list[str], list[str]]:
    usable, missing = [], []
    for backend in AttentionBackendName:
        if any(word in backend.value for word in NOT_TRIED):
            continue
        try:
            attention_dispatch._check_attention_backend_requirements(backend)
        except (RuntimeError, ImportError):
            missing.append(backend.value)
        else:
            usable.append(backend.value)
    return usable, missing


def _alone(context: Context, name: str) -> float | None:
    """A row of the self-attention of one video layer, and its seconds; None if this backend does not take it."""
    shape, device = context.shape, context.device
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (
        torch.randn(1, shape.tokens, shape.heads, shape.width // shape.heads, generator=generator, device=device).to(
            context.dtype
        )
        for _ in range(3)
    )

    def attend() -> Tensor:
        with attention_backend(name):
            out: Tensor = dispatch_attention_fn(q, k, v)
        return out

    forget_peak(device)
    try:
        answer = attend()[:, :CHECKED].float()
    # A backend that does not take this shape, or this card, says so in any way.
    except Exception as error:  # noqa: BLE001
        context.row(name, {"refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
        return None
    exact = _exact(q[:, :CHECKED].float(), k.float(), v.float())
    seconds = median_seconds(attend, device, REPEATS)
    flops = 4 * shape.tokens**2 * shape.width
    context.row(
        name,
        {
            "seconds": seconds,
            "flops_s": flops / seconds,
            "relative_error": float((answer - exact).norm() / exact.norm()),
        },
    )
    return seconds


def _exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [1,n,h,e], k and v [1,m,h,e], float32 -> [1,n,h,e], all scores in memory."""
    scores = torch.einsum("bnhe,bmhe->bhnm", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhnm,bmhe->bnhe", scores.softmax(-1), v)


def _whole(context: Context, work: Workload, name: str) -> None:
    """One forward, with fused kernels: its seconds, and the relative error of picture and sound against eager's step."""
    with attention_backend(name), Ours(fused=context.on_gpu)(work) as running:
        try:
            answers: list[JointOutput] = []
            seconds = timed(lambda: answers.extend(running.step(work)), context.device)
        # The text attention and the bridge have shapes of their own, which a backend may refuse.
        except Exception as error:  # noqa: BLE001
            context.row(f"{name}, whole forward", {"refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
            return
    figures: dict[str, object] = {"seconds": seconds, "flops_s": work.flops / EVALUATIONS / seconds}
    if (eager := context.answer("eager")) is not None:
        figures["relative_error"] = relative_errors(velocities(answers), eager)
    context.row(f"{name}, whole forward", figures)
