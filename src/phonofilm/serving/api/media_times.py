"""What given pictures say of a clip's times, checked as far as the model's sizes are known. No file is opened."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction

from phonofilm.errors import InputError
from phonofilm.geometry import ClipGeometry
from phonofilm.pipeline.keyframe_places import keyframe_places


def check_keyframes(
    times: Sequence[float], media: Collection[str], rate: Fraction, geometry: ClipGeometry | None, film: bool
) -> None:
    """Keyframes that have no place; where the length follows what is given with them, the worker finds out."""
    follows = not {"continue_from", "voice"}.isdisjoint(media)
    if not follows and any(round(time * rate) == 0 for time in times):
        raise InputError("keyframes: a picture at 0 s is the first frame; send it as input_reference")
    if geometry is None or follows or not {"video", "audio"}.isdisjoint(media):
        return
    try:
        # Parts of a film have places of their own.
        for together in [[time] for time in times] if film else [times]:
            keyframe_places(together, geometry, has_last="last_image" in media and not film)
    except InputError as error:
        raise InputError(f"keyframes: {error}".replace("last_image", "last_frame")) from None
