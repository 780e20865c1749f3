"""Progress as events: what a run tells whoever listens. Knows no screen: the command line turns events into bars and lines.

A listener stops the run by raising an exception or by returning False: within one step, with nothing half-written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phonofilm.errors import PhonofilmError

if TYPE_CHECKING:
    from PIL.Image import Image

Preview = Callable[[], "Image"]


@dataclass(frozen=True)
class Message:
    """A sentence worth keeping, such as the plan of the clip."""

    text: str


@dataclass(frozen=True)
class Loading:
    """Bytes of a component's weights that have arrived, of all it has."""

    component: str
    done: int
    total: int


@dataclass(frozen=True)
class SamplingStarted:
    """Sampling begins; the expert ("high" or "low") of every step."""

    experts: tuple[str, ...]


@dataclass(frozen=True)
class StepDone:
    """So many steps of `total` are done; the last one was made by `expert`.

    `preview` makes a picture of what the clip will become, which takes a moment: the picture's decoder runs for one frame.
    """

    done: int
    total: int
    expert: str
    preview: Preview | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class StageStarted:
    """Something of unknown length begins: decoding, writing. It ends what was shown before."""

    name: str


Event = Message | Loading | SamplingStarted | StepDone | StageStarted
OnProgress = Callable[[Event], object]


class Cancelled(PhonofilmError):
    """The listener asked to stop; nothing was written."""


def emit(on_progress: OnProgress, event: Event) -> None:
    """Tell the listener. Raises Cancelled when it returns False."""
    if on_progress(event) is False:
        raise Cancelled("cancelled; nothing was written")


def silent(event: Event) -> None:
    """A listener that shows nothing."""
