"""What a run tells its user: plain lines, or bars."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from phonofilm.cli.bars import Bars
from phonofilm.cli.progress import Display, Lines, open_display
from phonofilm.generation.report import Loading, Message, SamplingStarted, StageStarted, StepDone
from phonofilm.units import format_duration, format_size

EXPERTS = ("high",) * 12 + ("low",) * 28


def play(display: Display) -> None:
    with display as show:
        show(Message("the plan [b]"))
        show(Loading("video_dit", 500, 1000))
        show(Loading("video_dit", 1000, 1000))
        show(SamplingStarted(EXPERTS))
        for done, expert in enumerate(EXPERTS, start=1):
            show(StepDone(done, len(EXPERTS), expert))
        show(StageStarted("decode"))
        logging.getLogger("phonofilm.media").warning("the sound peaks at %.1f", 1.5)


def test_lines_are_few_and_have_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    play(Lines())
    text = capsys.readouterr().err
    assert all(character.isprintable() or character == "\n" for character in text)
    lines = text.splitlines()
    assert "the plan [b]" in lines
    assert "loaded video_dit (1.0 kB)" in lines
    assert any(line.startswith("step 1/40 (high-noise expert): ") and line.endswith(" left") for line in lines)
    assert any(line.startswith("step 40/40 (low-noise expert): ") and line.endswith("s/step") for line in lines)
    assert sum(line.startswith("step") for line in lines) == 11
    assert "warning: the sound peaks at 1.5" in lines


NASTY = "a\x1b]0;x\x07\x1b[31mb\x9b1m\u202ec[/red]"


def play_nasty(display: Display) -> None:
    """What names and prompts from files can hold, wherever they may stand."""
    with display as show:
        show(Message(NASTY))
        show(SamplingStarted(("high",)))
        show(StepDone(1, 1, "high"))
        show(StageStarted(f"write {NASTY}"))
        logging.getLogger("phonofilm.media").warning("odd: %s", NASTY)


def test_control_characters_of_names_reach_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    play_nasty(Lines())
    lines = capsys.readouterr().err
    screen = io.StringIO()
    play_nasty(Bars(Console(file=screen, force_terminal=True, width=140)))
    for text in (lines, screen.getvalue()):
        assert not any(code in text for code in ("\x1b]0", "\x1b[31m", "\x9b", "\x07", "\u202e"))
        assert text.count("a\\x1b]0;x\\x07\\x1b[31mb\\x9b1m\\u202ec[/red]") >= 3


def test_bars_show_every_part_on_a_terminal() -> None:
    screen = io.StringIO()
    play(Bars(Console(file=screen, force_terminal=True, width=140)))
    text = screen.getvalue()
    for part in ("the plan [b]", "load video_dit", "1.0 kB of 1.0 kB", "sample", "40/40", "decode", "peaks at 1.5"):
        assert part in text


def test_the_bars_of_a_clip_make_room_for_those_of_the_next() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True))
    with bars as show:
        for _ in range(3):
            show(SamplingStarted(EXPERTS))
            show(StepDone(1, len(EXPERTS), "high"))
            show(StageStarted("decode"))
            show(StageStarted("write"))
        assert len(bars._progress.tasks) == 3


def test_a_run_that_fails_leaves_no_listener_behind() -> None:
    before = list(logging.getLogger("phonofilm").handlers)
    for report in (Lines(), Bars(Console(file=io.StringIO(), force_terminal=True))):
        with pytest.raises(FileNotFoundError), report:
            Path("/no/such/file").read_text()
    assert logging.getLogger("phonofilm").handlers == before


def test_bars_are_for_terminals_only() -> None:
    assert isinstance(open_display(stream_is_terminal=True), Bars)
    assert isinstance(open_display(stream_is_terminal=False), Lines)


def test_sizes_and_durations_read_well() -> None:
    assert [format_size(n) for n in (0, 512, 588_700, 77_700_000_000, 1.2e12)] == [
        "0 B",
        "512 B",
        "588.7 kB",
        "77.7 GB",
        "1.2 TB",
    ]
    assert [format_duration(s) for s in (4.4, 200, 7500)] == ["4 s", "3 min 20 s", "2 h 5 min"]
