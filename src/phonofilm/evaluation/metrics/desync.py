"""DeSync: how many seconds Synchformer finds between picture and sound."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_seconds import frames_at, looked_at
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.published_files import SYNCHFORMER
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.weights import find_weights

if TYPE_CHECKING:
    import torch

    from phonofilm.evaluation.networks.synchformer import Synchformer

MOST_SECONDS = 2.0
CHANCE = 1.05  # the mean of |offset| over 21 classes from -2 to 2 s
SHORTEST = 4.8  # 14 segments
STRIDE_OF_FIXED = 3  # segments
BATCH = 4


class DeSync(Metric):
    """Mean of |offset| over stretches of 4.8 s, each the likeliest of 21 classes from -2 to 2 s in steps of 0.2 s.

    compat: the first and the last 4.8 s of the clip's whole seconds less 0.1. fixed: stretches all over the clip, one
    starting every 0.96 s. The network gives an offset for music and still pictures too.
    """

    name = "desync"
    title = "DeSync"
    version = 2
    figures = (Figure("desync", "DeSync", "s", better="lower", chance=CHANCE, paper="DeSync"),)
    source = "Iashin et al., 2024 (Synchformer), as av-benchmark and MOVA's evaluation code compute it"
    alone = True

    @property
    def needs(self) -> Requirements:
        return Requirements(weights=(SYNCHFORMER,), picture=True, sound=True)

    @property
    def notes(self) -> tuple[str, ...]:
        return ("models conditioned on Synchformer's features, such as MMAudio, are favoured",)

    @cached_property
    def network(self) -> Synchformer:
        from phonofilm.evaluation.networks.published import load_network, read_published
        from phonofilm.evaluation.networks.synchformer import Synchformer

        file = find_weights(SYNCHFORMER, self.setup.weights)
        return load_network(Synchformer, read_published(file), file, self.setup.device)

    def measure(self, clip: ClipFacts) -> Row:
        import torch

        from phonofilm.evaluation.features.resampling import sinc_resample
        from phonofilm.evaluation.features.segments import FRAME_RATE, SOUND_RATE, sound_segments, video_segments

        seconds = looked_at(clip)
        wave, rate = clip.sound
        heard = sinc_resample(torch.from_numpy(wave).mean(0), rate, SOUND_RATE)
        if self.setup.profile == "fixed":
            heard = torch.from_numpy(clip.aligned_wave(SOUND_RATE).copy())
            seconds = min(len(clip.frames) / float(clip.frame_rate), len(heard) / SOUND_RATE)
        samples = int(SOUND_RATE * seconds)
        if seconds < SHORTEST:
            return not_applicable(f"{max(0.0, seconds):.1f} s are looked at; at least {SHORTEST} s are needed")
        if len(heard) < samples:
            return not_applicable(f"the sound is {len(heard) / SOUND_RATE:.2f} s long, shorter than {seconds:.1f} s")
        frames = frames_at(clip, Fraction(FRAME_RATE), int(FRAME_RATE * seconds))
        offsets = self.offsets(video_segments(frames), sound_segments(heard[:samples]))
        return measured({"desync": sum(map(abs, offsets)) / len(offsets)}, {"offsets": offsets})

    def offsets(self, seen: torch.Tensor, heard: torch.Tensor) -> list[float]:
        """The likeliest offset of each stretch of 14 segments, in seconds."""
        import torch

        from phonofilm.evaluation.networks.synchformer import COMPARED_SEGMENTS, OFFSETS

        device, count = self.setup.device, min(len(seen), len(heard))
        last = count - COMPARED_SEGMENTS
        starts = [0, last] if self.setup.profile == "compat" else sorted({*range(0, last + 1, STRIDE_OF_FIXED), last})
        grid = torch.linspace(-MOST_SECONDS, MOST_SECONDS, OFFSETS)
        with torch.inference_mode():
            video = torch.cat([self.network.embed_video(part.to(device)) for part in seen[:count].split(BATCH)])
            sound = torch.cat([self.network.embed_sound(part.to(device)) for part in heard[:count].split(BATCH)])
            windows = [slice(start, start + COMPARED_SEGMENTS) for start in starts]
            logits = torch.cat([self.network.compare(video[None, part], sound[None, part]) for part in windows])
        return [round(float(grid[best]), 1) for best in logits.argmax(-1).cpu()]
