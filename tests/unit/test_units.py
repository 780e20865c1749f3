"""Amounts of memory and spans of time in words."""

from __future__ import annotations

import pytest

from phonofilm.errors import InputError
from phonofilm.units import format_duration, format_gigabytes, format_size, parse_size


@pytest.mark.parametrize(
    ("given", "expected"),
    [("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), (4096, 4096), ("70", 70), ("1 GiB", 2**30), (".5kB", 500)],
)
def test_sizes_are_decimal_unless_they_say_otherwise(given: int | str, expected: int) -> None:
    assert parse_size(given, "size") == expected


def test_what_a_bare_number_counts_is_up_to_the_option() -> None:
    assert parse_size("12", "--vram-limit", bare=10**9) == 12 * 10**9


@pytest.mark.parametrize("given", ["five", "", "0GB", "-1", "3 pounds", "1e9", "9" * 5000])
def test_a_size_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"max_shard_size .* is no amount of memory"):
        parse_size(given, "max_shard_size")


def test_sizes_in_words() -> None:
    assert [format_size(n) for n in (0, 512, 999, 1000, 588_700, 77.7e9, 5e15)] == [
        *("0 B", "512 B", "999 B", "1.0 kB", "588.7 kB", "77.7 GB", "5000.0 TB"),
    ]
    assert format_gigabytes(603e6) == "0.603 GB"


def test_durations_in_words() -> None:
    assert [format_duration(s) for s in (42.4, 200, 7500)] == ["42 s", "3 min 20 s", "2 h 5 min"]
