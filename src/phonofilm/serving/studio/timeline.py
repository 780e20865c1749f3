"""Routes of one clip's timeline: measured once, beside the server, and kept with the clip."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Response
from pydantic import BaseModel

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.errors import ApiError
from phonofilm.serving.api.services import MayRead, Services, ServicesOf
from phonofilm.serving.library.clips import LibraryClip
from phonofilm.serving.store.interface import NotStored
from phonofilm.serving.studio.clips import clip_or_404
from phonofilm.serving.studio.files import CACHED, derived_name, file_of
from phonofilm.serving.studio.timeline_work import measure_timeline

router = APIRouter(tags=["studio"], responses=ERRORS)
TIMELINE, SPECTROGRAM = "-timeline-2.json", "-spectrogram.png"


class Outline(BaseModel):
    """The lowest and the highest sample of each stretch of a channel, -1 to 1."""

    low: list[float]
    high: list[float]


class Peaks(BaseModel):
    """The waveform's outline; `per_second` stretches a second."""

    per_second: float
    channels: list[Outline]


class SpectrogramFacts(BaseModel):
    """A grey picture: time from left to right, the mel scale from bottom to top, black `range_db` below the loudest."""

    url: str = ""
    width: int
    height: int
    seconds: float
    lowest_hz: float
    highest_hz: float
    range_db: float


class LagCurve(BaseModel):
    """How well picture and sound agree when the sound comes so many seconds later."""

    seconds: list[float]
    correlation: list[float]


class TimelineLag(BaseModel):
    """Sound after picture. significance: the probability of such agreement by chance.

    reason: how many of the sounds fall on what is seen, or why there is no figure, as a clause.
    """

    milliseconds: float | None
    significance: float | None
    reason: str | None
    curve: LagCurve | None


class Timeline(BaseModel):
    """A clip against time. heard, seen: onsets in seconds; impact: for each frame, how suddenly motion stops, 0 to 1."""

    seconds: float
    fps: float
    num_frames: int
    width: int
    height: int
    sampling_rate: int | None
    peaks: Peaks | None
    spectrogram: SpectrogramFacts | None
    heard: list[float]
    seen: list[float] | None
    impact: list[float] | None
    lag: TimelineLag


@router.get("/v1/studio/clips/{clip_id}/timeline", operation_id="getTimeline")
def get_timeline(clip_id: str, services: ServicesOf, access: MayRead) -> Timeline:
    """Waveform, spectrogram, onsets heard and seen, and the lag between them."""
    clip = clip_or_404(services, access, clip_id)
    found = _kept(services, clip)
    timeline = Timeline.model_validate_json(found) if found is not None else _measured(services, clip)
    if timeline.spectrogram is not None:
        timeline.spectrogram.url = f"/v1/studio/clips/{clip.id}/spectrogram"
    return timeline


@router.get(
    "/v1/studio/clips/{clip_id}/spectrogram",
    operation_id="getSpectrogram",
    response_class=Response,
    responses={200: {"description": "The picture.", "content": {"image/png": {}}}},
)
def get_spectrogram(clip_id: str, services: ServicesOf, access: MayRead) -> Response:
    """The spectrogram that the timeline describes."""
    clip = clip_or_404(services, access, clip_id)
    if _kept(services, clip) is None:
        _measured(services, clip)
    try:
        name = derived_name(services, clip, SPECTROGRAM)
        content = b"".join(services.store.read(name, 0, services.store.size(name)))
    except NotStored:
        raise ApiError(404, f"{clip.id} has no sound", "no_sound", param="clip_id") from None
    return Response(content, headers=CACHED, media_type="image/png")


def _kept(services: Services, clip: LibraryClip) -> bytes | None:
    name = derived_name(services, clip, TIMELINE)
    try:
        return b"".join(services.store.read(name, 0, services.store.size(name)))
    except NotStored:
        return None


def _measured(services: Services, clip: LibraryClip) -> Timeline:
    """Measure the clip and keep what was found: the picture first, so that a timeline is never there without it."""
    about, picture = services.media.run(measure_timeline, services.worker.store, file_of(clip))
    timeline = Timeline.model_validate(about)
    with TemporaryDirectory(prefix="phonofilm-") as folder:
        if picture is not None:
            (Path(folder) / "picture").write_bytes(picture)
            services.store.put(derived_name(services, clip, SPECTROGRAM), Path(folder) / "picture")
        (Path(folder) / "timeline").write_text(timeline.model_dump_json())
        services.store.put(derived_name(services, clip, TIMELINE), Path(folder) / "timeline")
    return timeline
