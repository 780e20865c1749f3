"""IB-Score: how near picture and sound are in ImageBind's space."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_seconds import frames_at, looked_at
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.published_files import IMAGEBIND
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.weights import find_weights

if TYPE_CHECKING:
    import torch

    from phonofilm.evaluation.networks.imagebind import ImageBind

FRAME_RATE = Fraction(1, 2)
SHORTEST = 0.5  # seconds


class IbScore(Metric):
    """Cosine of the mean embeddings of picture and sound, from -1 to 1.

    compat: the left channel, of which the last third of the way is never heard. fixed: the mean of the channels, to the
    end. It says whether what is seen may sound like that, not when.
    """

    name = "ib_score"
    title = "IB-Score"
    version = 2
    figures = (Figure("ib_score", "IB-Score", better="higher", chance=0.0, paper="IB-Score"),)
    source = "Girdhar et al., 2023 (ImageBind), as av-benchmark and MOVA's evaluation code compute it"
    alone = True

    @property
    def needs(self) -> Requirements:
        return Requirements(weights=(IMAGEBIND,), picture=True, sound=True)

    @cached_property
    def network(self) -> ImageBind:
        from phonofilm.evaluation.networks.imagebind import ImageBind
        from phonofilm.evaluation.networks.published import load_network, read_published

        file = find_weights(IMAGEBIND, self.setup.weights)
        return load_network(ImageBind, read_published(file), file, self.setup.device)

    def measure(self, clip: ClipFacts) -> Row:
        import torch

        from phonofilm.evaluation.features.imagebind_clips import sound_clips, video_clips
        from phonofilm.evaluation.features.resampling import sinc_resample
        from phonofilm.evaluation.features.spectrograms import KALDI_RATE

        wave, rate = clip.sound
        heard = sinc_resample(torch.from_numpy(wave), rate, KALDI_RATE)
        if heard.shape[1] < SHORTEST * KALDI_RATE:
            return not_applicable(
                f"the sound is {heard.shape[1] / KALDI_RATE:.2f} s long; at least {SHORTEST} s are needed"
            )
        fixed = self.setup.profile == "fixed"
        frames = frames_at(clip, FRAME_RATE, max(1, int(FRAME_RATE * Fraction(max(0.0, looked_at(clip))))))
        sound = sound_clips(heard.mean(0, keepdim=True) if fixed else heard, to_the_end=fixed)
        score = self.similarity(video_clips(frames), sound)
        return measured({"ib_score": score}, {"frames": len(frames)})

    def similarity(self, video: torch.Tensor, sound: torch.Tensor) -> float:
        """Of the mean embeddings of several clips each."""
        import torch

        with torch.inference_mode():
            seen = self.network.embed_video(video.to(self.setup.device)).mean(0)
            heard = self.network.embed_sound(sound.to(self.setup.device)).mean(0)
            return float(torch.cosine_similarity(seen, heard, dim=0))
