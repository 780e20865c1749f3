"""Captions come from an endpoint pass by pass, in the convention, and a run that failed in parts goes on from there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tests.unit.fake_endpoint import FakeEndpoint, serving
from typer.testing import CliRunner, Result

from phonofilm.cli.main import app
from phonofilm.data.caption_findings import caption_findings
from phonofilm.data.describe import Captioner
from phonofilm.data.endpoint import Endpoint, EndpointError, Hopeless
from phonofilm.data.manifest import Item, read_manifest
from phonofilm.data.request_pace import RequestPace, Stopped
from phonofilm.errors import InputError
from phonofilm.media import Clip, save_clip

MERGED = '[VISUAL]: A lamp and a man. [SPEECH]: The man says "hm".'


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with serving(FakeEndpoint()) as served:
        yield served


def make(path: Path, *, silent: bool = False) -> Path:
    """One second that gets brighter, with a tone that gets louder."""
    frames = np.repeat(np.arange(0, 240, 10, dtype=np.uint8), 16 * 16 * 3).reshape(24, 16, 16, 3)
    wave = (np.sin(np.arange(48000) / 8) * np.linspace(0, 0.8, 48000)).astype(np.float32)[None]
    return save_clip(Clip(frames, Fraction(24), None if silent else wave, None if silent else 48000), path)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        make(tmp_path / "clips" / f"{name}.mp4")
    make(tmp_path / "clips" / "mute.mp4", silent=True)
    return tmp_path / "clips"


def run(fake: FakeEndpoint, *arguments: object, key: str | None = None) -> Result:
    env = {"COLUMNS": "200", "OPENAI_BASE_URL": "", "OPENAI_API_KEY": "", "OTHER_KEY": key}
    given = ["data", "caption", *map(str, arguments), "--base-url", fake.url, "-m", "eyes"]
    return CliRunner().invoke(app, given, env=env)


def endpoint(fake: FakeEndpoint, **options: object) -> Endpoint:
    return Endpoint(fake.url, "eyes", first_delay=0.001, **options)  # type: ignore[arg-type]


def test_picture_speech_and_sound_are_asked_apart_and_merged(fake: FakeEndpoint, clips: Path) -> None:
    done = run(fake, clips, "--frames", 3, "--key-from", "OTHER_KEY", key="secret")
    assert done.exit_code == 0, done.output
    assert "3 captions written, 0 kept, 0 failed" in done.output
    assert fake.passes() == ["merge"] * 2 + ["sound"] * 2 + ["speech"] * 2 + ["visual"] * 3
    assert {(request["key"], request["model"]) for request in fake.requests} == {("Bearer secret", "eyes")}
    items = read_manifest(clips)
    assert [item.caption for item in items] == [MERGED, MERGED, "[VISUAL]: A lamp."]
    assert caption_findings(items) == [[], [], []]
    assert "secret" not in done.output
    visual = next(request for request in fake.requests if request["pass"] == "visual")
    brightness = [picture.mean() for picture in visual["pictures"]]
    assert len(brightness) == 3
    assert brightness == sorted(brightness)
    assert brightness[-1] > 180 > 40 > brightness[0]
    samples, rate = next(request["sound"] for request in fake.requests if request["pass"] == "speech")
    assert (rate, len(samples)) == (16000, 16000)
    assert np.abs(samples[12000:]).max() > 3 * np.abs(samples[:4000]).max()
    merge = next(request for request in fake.requests if request["pass"] == "merge")
    assert "Seen: A lamp." in merge["texts"][0]
    assert "Other sounds: NONE" in merge["texts"][0]


def test_only_what_has_no_caption_is_asked_about(fake: FakeEndpoint, clips: Path) -> None:
    (clips / "a.txt").write_text("mine")
    (clips / "b.txt").write_text("")
    assert "2 captions written, 1 kept, 0 failed" in run(fake, clips).output
    assert (clips / "a.txt").read_text() == "mine"
    fake.requests.clear()
    assert "0 captions written, 3 kept, 0 failed" in run(fake, clips).output
    assert fake.requests == []


def test_failures_are_listed_and_tried_again_by_the_next_run(fake: FakeEndpoint, clips: Path) -> None:
    (clips / "b.mp4").write_bytes(b"no clip")
    fake.answers["visual"] = lambda request: "A lamp." if len(fake.requests) > 1 else " "
    first = run(fake, clips, "--concurrency", 1)
    assert first.exit_code == 1
    assert "1 captions written, 0 kept, 2 failed" in first.output
    assert "a.mp4: the model answered nothing" in first.output
    assert "b.mp4: " in first.output
    assert sorted(path.name for path in clips.glob("*.txt")) == ["mute.txt"]
    make(clips / "b.mp4")
    assert "2 captions written, 1 kept, 0 failed" in run(fake, clips).output


def test_transcripts_and_no_sound_and_no_merge(fake: FakeEndpoint, clips: Path) -> None:
    fake.answers["transcript"] = "good\nevening"
    assert run(fake, clips, "--sound", "transcript", "--no-merge").exit_code == 0
    assert fake.passes() == ["transcript"] * 2 + ["visual"] * 3
    assert (clips / "a.txt").read_text() == '[VISUAL]: A lamp. [SPEECH]: "good evening"\n'
    for text in clips.glob("*.txt"):
        text.unlink()
    fake.requests.clear()
    assert run(fake, clips, "--sound", "none").exit_code == 0
    assert fake.passes() == ["visual"] * 3
    assert "unknown; use one of" in run(fake, clips, "--sound", "smell").output


def test_a_merge_that_breaks_the_convention_is_asked_again_and_then_fails(fake: FakeEndpoint, clips: Path) -> None:
    captioner = Captioner(endpoint(fake), frames=1)
    item = Item(clips / "a.mp4", None)
    bad = iter(["A lamp, and a man says hm.", "[VISUAL]: A lamp.", MERGED])
    fake.answers["merge"] = lambda _: next(bad)
    assert captioner.caption(item) == MERGED
    fake.answers["merge"] = '[SPEECH]: "hm" [VISUAL]: A lamp.'
    with pytest.raises(EndpointError, match="does not keep the convention"):
        captioner.caption(item)
    assert fake.passes().count("merge") == 6


def test_a_stretch_is_described_alone_and_has_its_own_text(fake: FakeEndpoint, clips: Path) -> None:
    (clips / "manifest.jsonl").write_text(
        '{"file": "a.mp4", "start": 0.5}\n{"file": "mute.mp4", "audio": "a.mp4", "end": 0.5}\n'
    )
    assert run(fake, clips, "--frames", 2).exit_code == 0
    assert [item.caption for item in read_manifest(clips)] == [MERGED] * 2
    assert (clips / "a@0.500-end.txt").is_file()
    assert (clips / "mute@0.000-0.500.txt").is_file()
    late, early = sorted((r for r in fake.requests if r["pass"] == "visual"), key=lambda r: -r["pictures"][0].mean())
    assert late["pictures"][0].mean() > 100 > early["pictures"][0].mean()
    assert {len(r["sound"][0]) for r in fake.requests if r["pass"] == "sound"} == {8000}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(fake: FakeEndpoint, status: int) -> None:
    fake.answers["merge"] = "fine"
    fake.failures = [(status, {})] * 2
    assert endpoint(fake, retries=2).chat("?") == "fine"
    fake.failures = [(status, {})] * 3
    with pytest.raises(EndpointError, match=rf"status {status}: .*not now.*given up after 3 tries"):
        endpoint(fake, retries=2).chat("?")


def test_what_cannot_pass_is_not_tried_again(fake: FakeEndpoint, clips: Path) -> None:
    fake.failures = [(400, {})] * 2
    with pytest.raises(EndpointError, match="status 400"):
        endpoint(fake).chat("?")
    assert len(fake.failures) == 1
    fake.failures = [(401, {})] * 9
    refused = run(fake, clips, "--concurrency", 2)
    assert refused.exit_code == 2
    assert "the key is not accepted" in refused.output
    assert len(fake.failures) >= 6
    fake.failures = [(307, {"Location": "http://127.0.0.1:9/"})]
    with pytest.raises(EndpointError, match="status 307"):
        endpoint(fake).chat("?")
    fake.failures = [(404, {})]
    with pytest.raises(Hopeless):
        endpoint(fake).chat("?")
    with pytest.raises(EndpointError, match="given up after 2 tries"):
        Endpoint("http://127.0.0.1:9/v1", "eyes", retries=1, first_delay=0.001).chat("?")
    with pytest.raises(InputError, match="no address"):
        Endpoint("localhost:8000", "eyes")


def test_one_refusal_for_too_many_requests_holds_everybody(fake: FakeEndpoint) -> None:
    fake.answers["merge"] = "fine"
    fake.failures = [(429, {"Retry-After": "0.3"})]
    pace = RequestPace()
    asking, other = (Endpoint(fake.url, "eyes", pace=pace) for _ in range(2))
    began = time.monotonic()
    assert asking.chat("?") == "fine"
    assert time.monotonic() - began >= 0.3
    began = time.monotonic()
    pace.hold(0.2)
    assert other.chat("?") == "fine"
    assert time.monotonic() - began >= 0.2
    fake.failures = [(429, {"Retry-After": "3600"})]
    with pytest.raises(EndpointError, match="asks to wait 3600 s"):
        asking.chat("?")


def test_requests_per_minute_and_stopping() -> None:
    pace = RequestPace(per_minute=600)
    began = time.monotonic()
    for _ in range(4):
        pace.wait()
    assert time.monotonic() - began >= 0.29
    pace.stop()
    with pytest.raises(Stopped):
        pace.wait()


def test_prompts_of_the_users_own(fake: FakeEndpoint, clips: Path, tmp_path: Path) -> None:
    shown = run(fake, "--show-prompts").output
    mine = tmp_path / "prompts.yaml"
    mine.write_text(shown)
    assert run(fake, "--show-prompts", "--prompts", mine).output == shown
    mine.write_text("visual: Name the colours.\n")
    assert run(fake, clips, "--prompts", mine).exit_code == 0
    assert {r["texts"][0] for r in fake.requests if r["pass"] == "visual"} == {"Name the colours."}
    for text, told in (("colour: x", "unknown prompt 'colour'"), ("merge: x", "lacks {visual}"), ("- x", "expected")):
        mine.write_text(text)
        assert told in run(fake, clips, "--prompts", mine).output
    assert run(fake, clips, "--prompts", tmp_path / "none.yaml").exit_code == 2


@pytest.mark.parametrize("said", [b"[" * 100_000, b'{"choices": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"{", b"NaN"])
def test_an_answer_that_is_no_json_is_one_line(fake: FakeEndpoint, said: bytes) -> None:
    fake.raw = said
    with pytest.raises(EndpointError, match="not JSON") as caught:
        endpoint(fake).chat("hm")
    assert "\n" not in str(caught.value)
