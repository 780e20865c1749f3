"""A first frame drawn for a job whose client asked for one: by an images endpoint, or by a model in this worker."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from phonofilm.data.endpoint import EndpointError, Hopeless
from phonofilm.errors import MediaError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.report import OnProgress, StageStarted, emit
from phonofilm.generation.session import Session
from phonofilm.writing.first_frame import FrameSource, ready_frame_source, write_first_frame
from phonofilm.writing.first_frame_options import FirstFrameOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameArtist:
    """Draws the first frame of one job, in the shape of its clips."""

    drawing: FirstFrameOptions
    source: FrameSource
    size: str

    def with_frame(self, options: ClipOptions, folder: Path, held: OnProgress) -> ClipOptions:
        """The options with a picture of their prompt as first frame, in `folder`.

        Raises PhonofilmError when none was drawn: the clip is not made from less than the client asked for. Neither the
        message nor the log holds the prompt or what the endpoint said.
        """
        emit(held, StageStarted("drawing the first frame"))
        target = folder / "first-frame.png"
        try:
            drawn = write_first_frame(self.source, options.prompt or "", target, self.size, options.seed)
        except (EndpointError, Hopeless, MediaError) as error:
            logger.warning("%s: %s; ask it by `phonofilm prompt`", self.drawing.source, type(error).__name__)
            raise PhonofilmError("draw_first_frame: the server's model gave no picture that can be used") from None
        emit(held, StageStarted("first frame drawn"))
        return replace(options, image=drawn)


def frame_artist(drawing: FirstFrameOptions | None, options: ClipOptions, session: Session) -> FrameArtist:
    """Who draws, with everything ready that is on this machine. Raises PhonofilmError where no frame can be drawn."""
    if drawing is None:
        raise PhonofilmError("draw_first_frame: this worker was started without a model that draws")
    geometry = session.checkpoint.geometry
    size = options.size if options.size not in (None, "auto") else f"{geometry.width}x{geometry.height}"
    return FrameArtist(drawing, ready_frame_source(drawing, size, str(session.placement.device)), size)
