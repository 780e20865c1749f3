"""Making a clip inside ComfyUI: progress with a preview on the node, an interrupt that is heard in the middle of a step, and
memory that is let go when making fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_management as management
from comfy_api.latest import ComfyAPISync, io
from torch.nn.modules.module import register_module_forward_pre_hook

from phonofilm import Clip
from phonofilm.errors import OutOfMemoryError, PhonofilmError
from phonofilm.generation.clip_plan import ClipPlan
from phonofilm.generation.report import Event, StepDone

from .media import audio_of, images_of, video_of
from .model import Model

WAY_ON = "All models were unloaded, so this node can be run again; offload, vram_limit and vae_tiling are inputs of the Load node"


def make(model: Model, prompt: str | None, seed: int, words: Mapping[str, Any]) -> io.NodeOutput:
    """A clip as every node gives it out, with its plan in one line. `words`: arguments of `Session.generate`; 0, "" and None
    leave it to the model.

    Raises PhonofilmError, which ComfyUI shows on the node, and its own exception when the user interrupts.
    """
    given = {name: value for name, value in words.items() if not _left_out(value)}
    plan = model.session.plan(prompt, seed=seed, loras=model.loras, **given)
    model.take_memory()
    with interruptible():
        clip = _make(model, plan)
    return io.NodeOutput(video_of(clip), images_of(clip), audio_of(clip), str(plan))


def _make(model: Model, plan: ClipPlan) -> Clip:
    """The clip of the plan. A failure leaves no weights in memory: the next run reads them, into what is free then."""
    try:
        return model.session.make(plan, Progress(sum(len(run.sampling.steps) for run in plan.runs)))
    except (PhonofilmError, RuntimeError) as error:
        model.session.close()
        if isinstance(error, OutOfMemoryError):
            management.unload_all_models()
            raise OutOfMemoryError(f"{error}. {WAY_ON}") from error
        raise


@contextmanager
def interruptible() -> Iterator[None]:
    """Ask ComfyUI before every module's forward whether the user has cancelled: a step of the released model takes minutes."""
    hook = register_module_forward_pre_hook(lambda *_: management.throw_exception_if_processing_interrupted())
    try:
        yield
    finally:
        hook.remove()


class Progress:
    """Tells ComfyUI of every step of `total`."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._api = ComfyAPISync()

    def __call__(self, event: Event) -> None:
        management.throw_exception_if_processing_interrupted()
        if isinstance(event, StepDone):
            self._done += 1
            preview = None if event.preview is None else event.preview()
            self._api.execution.set_progress(value=self._done, max_value=self._total, preview_image=preview)


def _left_out(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and value in ("", 0))
