"""Event lags: pairing, pooling, and the shuffled baseline."""

from __future__ import annotations

import numpy as np
import pytest

from phonofilm.evaluation.sync import match, shuffled_pairs, summarise

FRAME = 1 / 24


def test_pairs_are_nearest_first_and_one_to_one() -> None:
    matching = match([1.0, 1.2], [1.05, 1.04])
    assert matching.lags == pytest.approx((0.04, -0.15))
    assert (matching.misses, matching.extras) == (0, 0)


def test_sounds_out_of_reach_are_misses_and_extras() -> None:
    matching = match([0.5, 1.5], [0.52, 1.8, 1.9])
    assert matching.lags == pytest.approx((0.02,))
    assert (matching.misses, matching.extras) == (1, 2)


@pytest.mark.parametrize(("events", "onsets"), [([], []), ([], [0.3]), ([0.3], [])])
def test_an_empty_side_pairs_nothing(events: list[float], onsets: list[float]) -> None:
    matching = match(events, onsets)
    assert matching.lags == ()
    assert (matching.misses, matching.extras) == (len(events), len(onsets))


def test_late_sound_has_a_positive_offset_in_milliseconds() -> None:
    times = np.array([0.3, 0.8, 1.3])
    summary = summarise([match(times, times + 0.03)], FRAME)
    assert summary.offset_ms == pytest.approx(30)
    assert summary.median_ms == pytest.approx(30)
    assert summary.within == 1.0
    early = summarise([match(times, times - 0.1)], FRAME)
    assert early.offset_ms == pytest.approx(-100)
    assert early.median_ms == pytest.approx(100)
    assert early.within == 0.0


def test_share_is_of_all_events_and_pools_over_clips() -> None:
    clips = [match([0.5, 1.0, 1.5], [0.5]), match([0.5], [0.51])]
    summary = summarise(clips, FRAME)
    assert (summary.events, summary.clips) == (4, 2)
    assert summary.within == pytest.approx(2 / 4)
    assert summary.misses == pytest.approx(2 / 4)
    assert summary.within_low <= summary.within <= summary.within_high
    assert summary.within_low < summary.within_high


def test_ninetieth_percentile_sees_the_tail() -> None:
    times = np.arange(10) * 1.0
    late = times + np.array([0.01] * 8 + [0.2, 0.2])
    summary = summarise([match(times, late)], FRAME)
    assert summary.median_ms == pytest.approx(10)
    assert summary.p90_ms == pytest.approx(200)


def test_no_events_give_no_numbers_instead_of_good_ones() -> None:
    summary = summarise([match([], [0.1])], FRAME)
    assert summary.events == 0
    for value in (summary.within, summary.within_low, summary.median_ms, summary.p90_ms, summary.misses):
        assert np.isnan(value)


def test_shuffled_pairs_stay_in_their_group_and_never_pair_a_clip_with_itself() -> None:
    groups = ["a", "b", "a", "a", "b", "c"]
    pairs = shuffled_pairs(groups)
    assert all(groups[i] == groups[j] and i != j for i, j in pairs)
    assert len(set(pairs)) == len(pairs) == 3 * 2 + 2 * 1
    assert all(5 not in pair for pair in pairs)
    assert len(shuffled_pairs(["a"] * 10, shifts=2)) == 20
