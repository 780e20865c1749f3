"""What `phonofilm submit` sends for a prompt, a file of prompts or JSON lines, and what it calls the clips."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.unit.http_stub import StubHandler, listening
from tests.unit.serving_helpers import PNG, ask, client_of, services_in
from typer.testing import CliRunner

from phonofilm.cli.main import app as cli
from phonofilm.errors import InputError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.prompt_file import Line
from phonofilm.serving.api.fields import EditFields, ExtensionFields
from phonofilm.serving.client import PAGE, ServerClient, ServerError
from phonofilm.serving.client_clips import check_output, fetch_clips
from phonofilm.serving.client_jobs import Submission, completed, describe_job, submit_all
from phonofilm.serving.client_requests import FIELDS, FILES, HERE, request_of

EVERYTHING = ClipOptions(
    prompt="A lamp.", negative_prompt="blur", image_fit="crop", size="64x64", seconds=2.0, part_seconds=1.0, fps="24", steps=3,
    guidance_scale=2.0, audio_guidance_scale=3.0, modality_scale="3.5,1", guidance_interval="0:0.6", solver="euler", cache="easy",
    video_shift=5.0, audio_shift=4.0, boundary_ratio=0.9, lora=("night:0.5",), seed=4, num_clips=2, overlap_frames=5,
)  # fmt: skip


class RecordingClient(ServerClient):
    """Answers every request as a server would, and keeps what was sent."""

    sent: ClassVar[list[tuple[str, dict[str, Any], list[str], str | None]]] = []
    refuses, refusal = "", "the prompt is refused"

    def submit(self, fields: Any, files: Any, route: str = "/v1/videos", key: str | None = None) -> dict[str, Any]:
        if fields["prompt"] == self.refuses:
            raise ServerError(self.refusal, 400)
        self.sent.append((route, dict(fields), sorted(files), key))
        return {"id": f"video_{len(self.sent)}", "warnings": []}

    def fetch(self, video_id: str, target: Path, index: int = 0) -> Path:
        return target


MP4 = b"\0\0\0\x18ftypisom and the rest"
FAILED = {
    "id": "video_1",
    "status": "failed",
    "progress": 0,
    "stage": None,
    "prompt": "a ball",
    "expires_at": None,
    "warnings": [],
}


@pytest.fixture
def client() -> RecordingClient:
    RecordingClient.sent, RecordingClient.refuses, RecordingClient.refusal = [], "", "the prompt is refused"
    return RecordingClient("http://127.0.0.1:1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.mp4", "c.wav"):
        (tmp_path / name).write_bytes(PNG)
    return tmp_path


def write_lines(*lines: dict[str, Any]) -> Path:
    file = Path("clips.jsonl")
    file.write_text("\n\n".join(map(json.dumps, lines)))
    return file


def test_every_option_of_a_line_is_a_field_of_the_api_a_file_or_of_this_machine() -> None:
    known = {*EditFields.model_fields, *ExtensionFields.model_fields, "keyframes"}
    for field in fields(ClipOptions):
        if field.name not in HERE:
            assert {"keyframe": "keyframes", **FIELDS, **FILES}.get(field.name, field.name) in known


def test_json_lines_are_sent_with_every_option_that_they_give(here: Path, client: RecordingClient) -> None:
    given = {f.name: v for f in fields(ClipOptions) if (v := getattr(EVERYTHING, f.name)) is not None}
    file = write_lines(
        {**given, "image": "a.png", "last_image": "a.png", "keyframe": ["1=a.png"]},
        {"prompt": "A bell.", "video": "b.mp4", "retake": "0.5:1.5", "lora": "none"},
        {"prompt": "It goes on.", "continue_from": "b.mp4", "overlap_frames": 9},
        {"prompt": "A voice.", "voice": "c.wav", "seconds": None},
    )
    submit_all(client, Submission(prompts=file, steps=7, priority=3, model="360p"))
    first, second, third, fourth = client.sent
    renamed = {FIELDS.get(name, name): list(v) if isinstance(v, tuple) else v for name, v in given.items()}
    assert first[1] == {**renamed, "model": "360p", "priority": 3}
    assert first[2] == ["input_reference", "keyframes[1]", "last_frame"]
    assert (second[0], second[2]) == ("/v1/videos/edits", ["video"])
    common = {"num_inference_steps": 7, "model": "360p", "priority": 3}
    assert second[1] == {"prompt": "A bell.", "retake": "0.5:1.5", "loras": ["none"], **common}
    assert (third[0], third[2]) == ("/v1/videos/extensions", ["video"])
    assert third[1]["overlap_frames"] == 9
    assert (fourth[0], fourth[1], fourth[2]) == ("/v1/videos", {"prompt": "A voice.", **common}, ["voice"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "x", "output_type": "gif"}, "clips.jsonl line 3: output_type gif: a server makes mp4"),
        ({"prompt": "x", "output": "x.webm"}, "clips.jsonl line 3: output x.webm: a server makes mp4"),
        ({"prompt": "x", "output": "frames"}, "clips.jsonl line 3: output frames: a server makes mp4"),
        ({"prompt": "x", "contact_sheet": "x.png"}, "clips.jsonl line 3: contact_sheet: a server makes none"),
        ({"prompt": "x", "image": "none.png"}, "clips.jsonl line 3: image: no file at none.png"),
        ({"prompt": "x", "retake": "0:1"}, "clips.jsonl line 3: retake was given without video"),
        ({"prompt": "x", "video": "b.mp4"}, "clips.jsonl line 3: seconds follows the given video; leave it out"),
        ({"prompt": "x", "video": "b.mp4", "retake": "0:1"}, "clips.jsonl line 3: seconds follows the given video"),
        ({"prompt": "x", "size": 3}, "clips.jsonl line 3: size is 3; expected text such as 640x352"),
        ({"prompt": "x", "offload": "cpu"}, "clips.jsonl line 3: unknown key offload"),
        ({"prompt": "x", "model": "360p"}, "clips.jsonl line 3: one model makes all lines"),
        ({"seed": 1}, "clips.jsonl line 3: the prompt is empty"),
    ],
)
def test_what_a_server_cannot_obey_is_named_before_anything_is_sent(
    here: Path, client: RecordingClient, line: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        submit_all(client, Submission(prompts=write_lines({"prompt": "fine"}, line), seconds=0.7))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert client.sent == []


def test_clips_of_a_file_are_called_as_generate_calls_them(here: Path, client: RecordingClient) -> None:
    file = write_lines({"prompt": "one"}, {"prompt": "two", "output": "blue.mp4"}, {"prompt": "three", "num_clips": 2})
    ids = submit_all(client, Submission(prompts=file), Path("out"))
    counts = (1, 1, 2)
    jobs = [
        {"id": one, "num_outputs": count, "prompt": prompt}
        for one, count, prompt in zip(ids, counts, ("one", "two", "three"), strict=True)
    ]
    names = [str(path) for path in fetch_clips(client, jobs, Path("out"), file)]
    assert names == ["out/0001.mp4", "out/blue.mp4", "out/0005-0.mp4", "out/0005-1.mp4"]
    assert [path.name for path in fetch_clips(client, jobs[2:], Path("out"))] == ["video_3.mp4", "video_3-1.mp4"]
    assert [path.name for path in fetch_clips(client, jobs[2:], Path("x.mp4"))] == ["x-0.mp4", "x-1.mp4"]
    with pytest.raises(InputError, match="has 3 prompts, and there are 2 jobs"):
        list(fetch_clips(client, jobs[1:], Path("out"), file))
    with pytest.raises(InputError, match=r"clips\.jsonl line 1 is not the prompt of video_3"):
        list(fetch_clips(client, jobs[::-1], Path("out"), file))


def test_a_file_that_is_there_is_not_written_over(here: Path, client: RecordingClient) -> None:
    Path("out").mkdir()
    Path("out/0001.mp4").touch()
    file = write_lines({"prompt": "one"}, {"prompt": "two", "output": "0001.mp4"})
    for asked in (Submission(prompts=file), Submission("one")):
        with pytest.raises(InputError, match=r"0001\.mp4 is there already"):
            submit_all(client, asked, Path("out") if asked.prompts else Path("out/0001.mp4"))
    with pytest.raises(InputError, match=r"line 3: .*0001\.mp4 is what clips\.jsonl line 1 writes as well"):
        submit_all(client, Submission(prompts=file, idempotency_key="k"), Path("out"))
    assert client.sent == []


def test_each_prompt_of_a_file_has_a_key_that_is_the_same_again(here: Path, client: RecordingClient) -> None:
    file = write_lines({"prompt": "one"}, {"prompt": "two"})
    for _ in range(2):
        submit_all(client, Submission(prompts=file, idempotency_key="batch"))
    submit_all(client, Submission("one", idempotency_key="batch"))
    submit_all(client, Submission("one"))
    assert [sent[3] for sent in client.sent] == ["batch:1", "batch:3", "batch:1", "batch:3", "batch", None]
    with pytest.raises(InputError, match="--idempotency-key is 1 to 200"):
        submit_all(client, Submission("one", idempotency_key="a b"))


def test_a_refusal_names_its_line_and_what_is_in_the_queue_already(here: Path, client: RecordingClient) -> None:
    RecordingClient.refuses = "two"
    with pytest.raises(ServerError, match="line 3: the prompt is refused; submitted before it: video_1"):
        submit_all(client, Submission(prompts=write_lines({"prompt": "one"}, {"prompt": "two"})))


def test_the_options_of_one_clip_are_refused_in_their_own_words() -> None:
    with pytest.raises(InputError, match=r"^seed -1 is outside"):
        request_of(Line("", replace(EVERYTHING, image_fit=None, seed=-1)), {})
    with pytest.raises(InputError, match="give a prompt, or a file"):
        Submission().lines(None)


def test_the_list_is_whole_however_many_jobs_there_are(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    jobs = [ask(services.database, f"prompt {number}").id for number in range(PAGE + 30)]
    app = client_of(services)
    asked: list[str] = []

    class Server(StubHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer = app.get(self.path)
            self.reply(answer.status_code, answer.json())

    with listening(Server) as url:

        def listed(*words: str) -> list[str]:
            shown = CliRunner().invoke(cli, ["list", "--server", url, *words])
            assert shown.exit_code == 0, shown.output
            return [line.split()[0] for line in shown.stdout.splitlines()]

        assert listed() == jobs[::-1]
        assert len(asked) == 2
        assert listed("--limit", "3") == jobs[-3:][::-1]
        assert "limit=3" in asked[-1]
        assert len(listed("--limit", str(PAGE + 1), "--status", "queued")) == PAGE + 1
        assert listed("--status", "failed") == []


def test_a_clip_that_is_not_kept_any_more_is_expired() -> None:
    job = {"id": "video_1", "status": "completed", "progress": 100, "stage": None, "prompt": "a ball", "error": None}
    for expires_at, said in (
        (1, "expired"),
        (None, "completed 100 %"),
        (2**40, "completed 100 %"),
    ):
        assert describe_job({**job, "expires_at": expires_at}) == f"video_1 {said} a ball"


def test_a_reason_and_a_prompt_are_kept_apart_where_there_are_both() -> None:
    reason = {**FAILED, "error": {"message": "no memory"}}
    assert describe_job({**reason, "prompt": "a ball"}) == "video_1 failed 0 %: no memory · a ball"
    assert describe_job({**reason, "prompt": None}) == "video_1 failed 0 %: no memory"
    with pytest.raises(PhonofilmError) as failed:
        completed([reason], print)
    assert str(failed.value) == "video_1 failed: no memory"


def test_what_a_server_warns_of_is_on_standard_error_once(here: Path) -> None:
    job = {"id": "video_1", "status": "completed", "progress": 100, "prompt": "a ball"}
    warnings = ["LoRA fast (0.5): \x1b[1mspoilt", "LoRA fast (0.5): \x1b[1mspoilt", "user is ignored\nhere"]

    class Server(StubHandler):
        def do_GET(self) -> None:
            made = MP4 if "/content" in self.path else {**job, "id": self.path.split("/")[-1], "warnings": warnings}
            self.reply(200, made)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(200, {**job, "warnings": warnings})

    with listening(Server) as url:

        def warned(*words: str) -> list[str]:
            shown = CliRunner().invoke(cli, [*words, "--server", url])
            assert shown.exit_code == 0, shown.output
            assert "warning" not in shown.stdout
            return [line for line in shown.stderr.splitlines() if line.startswith("warning: ")]

        alone = ["warning: LoRA fast (0.5): \\x1b[1mspoilt", "warning: user is ignored here"]
        assert warned("submit", "a ball") == alone
        assert warned("submit", "a ball", "-o", "a.mp4") == alone
        assert warned("status", "video_1") == warned("wait", "video_1") == warned("fetch", "video_1") == alone
        several = [f"{line} (video_1, video_2)" for line in alone]
        assert warned("wait", "video_1", "video_2") == warned("status", "video_1", "video_2") == several


def test_warnings_are_said_beside_a_failure() -> None:
    said: list[str] = []
    with pytest.raises(PhonofilmError):
        completed([{**FAILED, "error": {"message": "no memory"}, "warnings": ["user is ignored"]}], said.append)
    assert said == ["user is ignored"]


@pytest.mark.parametrize("name", ["x.gif", "x.webm", "x.txt", "X.GIF", "frames.zip"])
def test_a_file_that_a_server_does_not_make_is_refused_before_anything_is_sent(
    here: Path, client: RecordingClient, name: str
) -> None:
    said = f"output {name}: a server makes mp4; give a name that ends in .mp4"
    with pytest.raises(InputError, match=said):
        submit_all(client, Submission("a ball"), Path(name))
    with pytest.raises(InputError, match=said):
        check_output(Path(name), ["video_1"])
    assert client.sent == []


def test_a_name_is_a_file_or_a_folder_as_in_generate(here: Path, client: RecordingClient) -> None:
    Path("made.v2").mkdir()
    job = {"id": "video_1", "num_outputs": 1, "prompt": "a ball"}
    for name, written in (
        ("B.MP4", "B.MP4"),
        ("clips", "clips/video_1.mp4"),
        ("made.v2", "made.v2/video_1.mp4"),
        (".", "video_1.mp4"),
    ):
        check_output(Path(name), ["video_1"])
        submit_all(client, Submission("a ball"), Path(name))
        assert [str(path) for path in fetch_clips(client, [job], Path(name))] == [written]
    Path("B.MP4").touch()
    with pytest.raises(InputError, match=r"B\.MP4 is there already"):
        submit_all(client, Submission("a ball"), Path("B.MP4"))


def test_a_file_for_several_jobs_is_refused_before_they_are_waited_for(here: Path) -> None:
    with pytest.raises(InputError, match=r"^a\.mp4 is one file, and there are 2 jobs; give a folder"):
        check_output(Path("a.mp4"), ["video_1", "video_2"])
    with pytest.raises(InputError, match=r"names the folder for the clips, and a\.mp4 ends like a file"):
        check_output(Path("a.mp4"), ["video_1", "video_2"], write_lines({"prompt": "one"}, {"prompt": "two"}))
    ended = CliRunner().invoke(cli, ["fetch", "video_1", "-o", "a.gif", "--server", "http://127.0.0.1:1"])
    assert (ended.exit_code, ended.stderr.count("a server makes mp4")) == (2, 1)


def test_a_file_that_is_another_clip_keeps_no_other_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "two.mp4").write_bytes(b"another clip")
    prompts = tmp_path / "clips.jsonl"
    names = ("one", "two", "three", "four", "five")
    prompts.write_text("\n".join(json.dumps({"prompt": name, "output": f"{name}.mp4"}) for name in names))
    job = {"status": "completed", "progress": 100}

    class Server(StubHandler):
        def do_GET(self) -> None:
            name = self.path.split("/")[3].partition("?")[0]
            self.reply(200, MP4 if "/content" in self.path else {**job, "id": name, "prompt": name})

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            name = next(name for name in names if f"\r\n\r\n{name}\r\n" in sent)
            self.reply(200, {**job, "id": name, "prompt": name})

    with listening(Server) as url:
        words = ["--prompts", str(prompts), "-o", str(tmp_path), "--server", url]
        submitted = CliRunner().invoke(cli, ["submit", *words, "--idempotency-key", "k"])
        (tmp_path / "four.mp4").unlink()
        (tmp_path / "four.mp4").mkdir()
        fetched = CliRunner().invoke(cli, ["fetch", *names, *words])
    assert submitted.exit_code == fetched.exit_code == 2
    written = [[Path(line).stem for line in ended.stdout.splitlines()] for ended in (submitted, fetched)]
    assert written == [["one", "three", "four", "five"], ["one", "three", "five"]]
    assert all((tmp_path / f"{name}.mp4").read_bytes() == MP4 for name in ("one", "three", "five"))
    assert (tmp_path / "two.mp4").read_bytes() == b"another clip"
    said = " ".join(fetched.stderr.split())
    assert "two.mp4 is there already and is another clip; choose another name for two" in said
    assert "four.mp4" in said


@pytest.mark.parametrize(
    ("given", "message", "said"),
    [
        ({"image": "a.png"}, "input_reference is of a kind that is not read", "--image is of a kind that is not read"),
        ({"last_image": "a.png"}, "last_frame is an empty file", "--last-image is an empty file"),
        ({"keyframe": ("0=a.png",)}, "keyframes: the first frame; send it as input_reference",
         "--keyframe: the first frame; send it as --image"),
        ({"seconds": 90.0}, "seconds: 90 s; at most 60 s", "--seconds: 90 s; at most 60 s"),
        ({"size": "33x32"}, "size 33x32 is no multiple of 16", "--size 33x32 is no multiple of 16"),
        ({"steps": 3}, "num_inference_steps: too few", "--steps: too few"),
        ({"seconds": 1.0}, "10 seconds were asked for", "10 seconds were asked for"),
        ({"size": "64x64"}, "video is longer than the size that fits", "video is longer than the size that fits"),
        ({"lora": ("x",)}, "LoRA 'x' is not offered", "LoRA 'x' is not offered"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_option_that_was_given(
    here: Path, client: RecordingClient, given: dict[str, Any], message: str, said: str
) -> None:
    RecordingClient.refuses, RecordingClient.refusal = "two", message
    with pytest.raises(ServerError) as refused:
        submit_all(client, Submission("two", **{k: Path(v) if v == "a.png" else v for k, v in given.items()}))
    assert str(refused.value) == said
    lines = write_lines({"prompt": "two", **given})
    with pytest.raises(ServerError) as refused:
        submit_all(client, Submission(prompts=lines))
    assert str(refused.value) == f"clips.jsonl line 1: {said.replace('--last-image', 'last_image').replace('--', '')}"


def test_a_file_that_is_not_there_is_named_by_its_option(here: Path, client: RecordingClient) -> None:
    for given, said in (
        ({"image": Path("no.png")}, "--image: no file at no.png"),
        ({"last_image": Path("no.png")}, "--last-image: no file at no.png"),
        ({"keyframe": ("1=no.png",)}, "--keyframe: no file at no.png"),
    ):
        with pytest.raises(InputError) as refused:
            submit_all(client, Submission("one", **given))
        assert str(refused.value) == said
