"""Where keyframes lie among a clip's frames, and times there is no place for. A server checks with it too: no PyTorch here."""

from __future__ import annotations

from collections.abc import Sequence

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry


def keyframe_places(
    seconds: Sequence[float], geometry: ClipGeometry, lead: int = 0, *, follows: bool = False, has_last: bool = False
) -> list[int]:
    """The latent frames that show keyframes of these times, which count from frame `lead`.

    follows: whether the clip goes on from a given one. Raises InputError for a time outside the clip, or, where the clip has a
    last frame, in the place of that.
    """
    places = [latent_of(_frame_at(one, geometry, lead, follows), geometry) for one in seconds]
    apart = (
        f"closer than {float(geometry.temporal_factor / geometry.frame_rate):.2f} s, for which the model has one place"
    )
    if len(set(places)) < len(places):
        raise InputError(f"two keyframes are {apart}; leave one out")
    if has_last and geometry.latent_frames - 1 in places:
        raise InputError(f"a keyframe and last_image are {apart}; leave one out")
    return places


def outside(seconds: float, what: str, num_frames: int, frame_rate: float) -> InputError:
    """That a time is not in `what`, which has so many frames."""
    length, last = num_frames / frame_rate, (num_frames - 1) / frame_rate
    return InputError(
        f"keyframe at {seconds:g} s is outside {what} {length:.3f} s long; its last frame is at {last:.3f} s"
    )


def latent_of(frame: int, geometry: ClipGeometry) -> int:
    """The latent frame that holds a frame of a clip."""
    return (frame + geometry.temporal_factor - 1) // geometry.temporal_factor


def _frame_at(seconds: float, geometry: ClipGeometry, lead: int, follows: bool) -> int:
    length = float((geometry.num_frames - lead) / geometry.frame_rate)
    frame = lead + round(seconds * geometry.frame_rate) if 0 <= seconds < length else geometry.num_frames
    if frame >= geometry.num_frames:
        what = "the new part, in which its time counts and which is" if follows else "the clip, which is"
        raise outside(seconds, what, geometry.num_frames - lead, float(geometry.frame_rate))
    if frame == lead == 0:
        raise InputError("a keyframe at 0 s is the first frame; give it as image")
    return frame
