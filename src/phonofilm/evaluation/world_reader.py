"""Whether the embedded model's events are heard where they are seen, read off clips in memory: for trainings of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phonofilm.evaluation.metrics.nano_sync import LARGEST, SMALLEST
from phonofilm.evaluation.sync import match, summarise
from phonofilm.media.clip import Clip
from phonofilm.media.onsets import onset_times
from phonofilm.nano.reading.frame_reader import UNRECOGNISED, read_frames


class WorldReader:
    """The figures of `nano_sync`, of clips that were never in a file."""

    def fits(self, height: int, width: int) -> bool:
        """Whether pictures of this size can be of the embedded model's world."""
        return height == width and SMALLEST <= height <= LARGEST

    def __call__(self, clips: Sequence[Clip]) -> Mapping[str, float]:
        """Shares of the visible events of all clips (`within` a frame, `misses`, `extras`); empty where none is recognised."""
        matchings = []
        for clip in clips:
            reading = read_frames(clip.frames, clip.frame_rate)
            if reading.scene == UNRECOGNISED or not reading.events or clip.audio is None or clip.sampling_rate is None:
                continue
            matchings.append(match(reading.events, onset_times(clip.audio.mean(axis=0), clip.sampling_rate).tolist()))
        if not matchings:
            return {}
        summary = summarise(matchings, float(1 / clips[0].frame_rate))
        return {"within": summary.within, "misses": summary.misses, "extras": summary.extras}
