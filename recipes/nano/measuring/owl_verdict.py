"""Whether one generated clip is the owl that its caption asks for: seen, in its colours, moving, calling, in time, and new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phonofilm.evaluation.sync import Matching, match
from phonofilm.nano.world import WorldClip
from phonofilm.nano.world.owl import NOTE_SECONDS
from recipes.nano.measuring.generated_clips import GeneratedClip
from recipes.nano.measuring.novelty import Nearest, TrainedOwl, nearest_trained
from recipes.nano.measuring.owl_reader import read_calls, read_owl

IN_SYNC = (
    0.75  # share of wings and calls that belong to each other; another clip's sound reaches it in one case of forty
)
CUT_OFF = 2 * NOTE_SECONDS  # seconds: a call that begins later than this before the end is not heard whole


@dataclass(frozen=True)
class OwlVerdict:
    """One clip, judged.

    seen: an owl in almost all frames. colour, background: as the caption has them, in almost all frames. moves: its wings go
    up. calls: a call is heard. in_sync: wings and calls come within one frame of each other, but for one in four. new: no
    trained clip came out again. matching: wings and calls paired.
    """

    seen: bool
    colour: bool
    background: bool
    moves: bool
    calls: bool
    in_sync: bool
    new: bool
    nearest: Nearest
    matching: Matching

    @property
    def all(self) -> bool:
        return all((self.seen, self.colour, self.background, self.moves, self.calls, self.in_sync, self.new))


def judge_owl(clip: GeneratedClip, truth: WorldClip, trained: Sequence[TrainedOwl]) -> OwlVerdict:
    """Read the clip's frames and sound. Of the truth only the rates and what its caption names are used."""
    owl, calls = read_owl(clip.frames, truth.frame_rate), read_calls(clip.audio, truth.sampling_rate)
    nearest = nearest_trained(owl, clip.audio, truth.sampling_rate, trained)
    seconds, frame = float(len(clip.frames) / truth.frame_rate), float(1 / truth.frame_rate)
    return OwlVerdict(
        seen=owl.seen,
        colour=owl.seen and owl.colour == truth.attributes["colour"],
        background=owl.background == truth.attributes["background"],
        moves=bool(owl.events),
        calls=bool(calls),
        in_sync=sync_agreement(owl.events, calls, seconds - CUT_OFF, frame) >= IN_SYNC,
        new=not nearest.replayed,
        nearest=nearest,
        matching=match(owl.events, calls),
    )


def sync_agreement(events: Sequence[float], calls: Sequence[float], heard_until: float, tolerance: float) -> float:
    """The share of events and calls that have each other within `tolerance` seconds; 0 where there are none of one kind.

    An event after `heard_until`, whose call the clip's end cuts off, counts only where a call is found for it.
    """
    pairs = len(match(events, calls, reach=tolerance).lags)
    early = [time for time in events if time <= heard_until]
    late_pairs = pairs - len(match(early, calls, reach=tolerance).lags)
    total = len(early) + late_pairs + len(calls)
    return 2 * pairs / total if total and events and calls else 0.0
