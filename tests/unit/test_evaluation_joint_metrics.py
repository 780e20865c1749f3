"""DeSync and the IB-Score without their weights: what the networks are fed with, which stretches count, and states."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.evaluation_clips import noise, shown
from tests.unit.seeded_weights import fill_seeded, seeded_input

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.clip_seconds import frames_at, looked_at
from phonofilm.evaluation.features.imagebind_clips import sound_clips, video_clips
from phonofilm.evaluation.features.segments import sound_segments, video_segments
from phonofilm.evaluation.features.spectrograms import kaldi_filter_bank
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.desync import DeSync
from phonofilm.evaluation.metrics.ib_score import IbScore
from phonofilm.evaluation.networks.imagebind import ImageBind, ImageBindSize
from phonofilm.evaluation.networks.synchformer import Synchformer, SynchformerSize


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipFacts:
    """193 frames at 24 a second, whose brightness is their number, and as much noise."""
    frames = np.broadcast_to(np.arange(193, dtype=np.uint8)[:, None, None, None], (193, 32, 48, 3))
    path = tmp_path_factory.mktemp("joint") / "clip.mp4"
    return ClipFacts(shown(path, np.ascontiguousarray(frames), noise(193 / 24)), "clip")


def test_eight_seconds_are_looked_at_as_in_the_published_runs(clip: ClipFacts) -> None:
    assert looked_at(clip) == pytest.approx(7.9)
    quarters = frames_at(clip, Fraction(1, 2), 3)[:, 0, 0, 0].astype(int)
    assert np.abs(quarters - [23, 71, 119]).max() <= 3
    assert len(frames_at(clip, Fraction(25), 250)) == 250


def test_segments_are_cut_as_in_the_original() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (197, 32, 40, 3), dtype=np.uint8)
    seen = video_segments(frames[:40])
    assert seen.shape == (4, 3, 16, 224, 224)
    assert torch.equal(seen[0, :, 8:], seen[1, :, :8])
    assert float(seen.min()) >= -1
    assert (197 - 16) // 8 + 1 == 23
    heard = sound_segments(seeded_input(126_400) * 0.1)
    assert heard.shape == (23, 128, 66)
    # The padding is 0 where the logarithm of the powers stands.
    torch.testing.assert_close(heard[:, :, 65], torch.full((23, 128), 4.2677393 / (2 * 4.5689974)))


@pytest.fixture(scope="module")
def synchformer() -> Synchformer:
    return fill_seeded(Synchformer(SynchformerSize(24, 1, 3, 1, 4)))  # type: ignore[return-value]


def test_the_first_and_the_last_stretch_count_and_in_the_fixed_profile_those_between(synchformer: Synchformer) -> None:
    compat, fixed = DeSync(Setup("compat")), DeSync(Setup("fixed"))
    compat.network = fixed.network = synchformer
    seen, heard = seeded_input(18, 3, 16, 224, 224).clamp(-1, 1), seeded_input(19, 128, 66, seed=1)
    ends, all_of_it = compat.offsets(seen, heard), fixed.offsets(seen, heard)
    assert (len(ends), len(all_of_it)) == (2, 3)  # starts 0 and 4; 0, 3 and 4
    assert ends == [all_of_it[0], all_of_it[2]]
    assert all(abs(round(offset * 5) - offset * 5) < 1e-6 and abs(offset) <= 2 for offset in all_of_it)


def test_stretches_of_sound_are_those_of_the_original() -> None:
    wave = seeded_input(2, 129_000) * 0.1 + 0.3
    found = sound_clips(wave, to_the_end=False)
    assert found.shape == (3, 1, 128, 204)
    for index in range(3):
        start = int((129_000 / 16_000 - 2) / 3 * index * 16_000)
        part = wave[:, start : start + 32_000]
        levels = kaldi_filter_bank((part - part.mean())[0]).T
        torch.testing.assert_close(found[index, 0, :, :198], (levels + 4.268) / 9.138, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found[index, 0, :, 198:], torch.full((128, 6), 4.268 / 9.138))
    assert not torch.equal(found[2], sound_clips(wave, to_the_end=True)[2])


def test_every_two_frames_make_three_clips() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 60, 100, 3), dtype=np.uint8)
    found = video_clips(frames)
    assert found.shape == (6, 3, 2, 224, 224)
    assert torch.equal(found[0, :, 1], found[3, :, 0])
    single = video_clips(frames[:1])
    assert single.shape == (3, 3, 2, 224, 224)
    assert torch.equal(single[:, :, 0], single[:, :, 1])


@pytest.mark.parametrize("profile", ["compat", "fixed"])
def test_a_clip_has_an_ib_score(clip: ClipFacts, profile: str) -> None:
    metric = IbScore(Setup(profile))  # type: ignore[arg-type]
    metric.network = fill_seeded(ImageBind(ImageBindSize(32, 1, 4, 24, 1, 3, 24)))  # type: ignore[assignment]
    row = metric.measure(clip)
    assert -1 <= row.values["ib_score"] <= 1
    assert row.detail["frames"] == 3


def test_clips_too_short_say_so(tmp_path: Path) -> None:
    frames = np.zeros((72, 32, 32, 3), np.uint8)
    three_seconds = ClipFacts(shown(tmp_path / "three.mp4", frames, noise(3.0)), "three")
    assert "at least 4.8 s" in DeSync(Setup()).measure(three_seconds).reason
    blink = ClipFacts(shown(tmp_path / "blink.mp4", frames[:7], noise(0.29)), "blink")
    assert "at least 4.8 s" in DeSync(Setup("fixed")).measure(blink).reason
    assert "at least 0.5 s" in IbScore(Setup()).measure(blink).reason
