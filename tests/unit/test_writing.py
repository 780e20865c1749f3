"""Help with writing, by a fake endpoint: prompts from ideas, first frames from text, and both at the doors."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import GOLDENS
from tests.unit.fake_endpoint import FakeEndpoint, serving
from tests.unit.serving_helpers import client_of, services_in
from typer.testing import CliRunner, Result

from phonofilm.cli.main import app
from phonofilm.data.endpoint import Endpoint, EndpointError, Hopeless
from phonofilm.errors import InputError, MediaError, PhonofilmError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.report import Cancelled, Event, silent
from phonofilm.media import Clip, save_clip
from phonofilm.serving.api.services import WRITING
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.side_process import InThisProcess
from phonofilm.serving.worker.enhancing import with_enhanced_prompt
from phonofilm.writing.first_frame import DiffusersFrames, EndpointFrames, write_first_frame
from phonofilm.writing.first_frame_options import first_frame_options
from phonofilm.writing.prompt_writer import PromptWriter
from phonofilm.writing.writing_endpoint import KEY_VARIABLE, WritingEndpoint, writing_endpoint

IDEA = 'a fisherman on a pier says "No luck today."'
GOOD = 'An old fisherman stands on a pier at dawn. In a hoarse voice he says, "No luck today." Waves lap at the posts.'
FRAME = GOLDENS / "basic" / "first_frame.png"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", KEY_VARIABLE, "PHONOFILM_WRITING_ENDPOINT", "PHONOFILM_WRITING_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[FakeEndpoint]:
    with serving(FakeEndpoint(answers={"merge": GOOD, "visual": GOOD, "image": {"b64_json": png()}})) as endpoint:
        yield endpoint


def png() -> str:
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 96, 3), 200, np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def asking(fake: FakeEndpoint, key: str | None = None) -> Endpoint:
    return Endpoint(fake.url, "writer", key, retries=0, timeout=5)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["prompt", *map(str, arguments)])


def test_an_idea_becomes_a_prompt_that_keeps_the_quoted_words(fake: FakeEndpoint) -> None:
    assert PromptWriter(asking(fake)).write(IDEA, seconds=4) == GOOD
    (request,) = fake.requests
    assert IDEA in request["texts"][0]
    assert "4 seconds" in request["texts"][0]
    assert "at most 10 words" in request["texts"][0]
    assert not request["pictures"]


def test_a_picture_is_shown_and_described_as_the_beginning(fake: FakeEndpoint) -> None:
    assert PromptWriter(asking(fake)).write(IDEA, FRAME) == GOOD
    (request,) = fake.requests
    assert len(request["pictures"]) == 1
    assert "begins with exactly the picture" in request["texts"][0]


@pytest.mark.parametrize("around", ["```\n{}\n```", "**Prompt:** {}", "Prompt: {}\n", "  {}\n\n"])
def test_what_models_put_around_their_answer_is_taken_off(fake: FakeEndpoint, around: str) -> None:
    fake.answers["merge"] = around.format(GOOD)
    assert PromptWriter(asking(fake)).write(IDEA) == GOOD


def test_an_answer_that_changes_the_words_is_asked_again_and_then_refused(fake: FakeEndpoint) -> None:
    answers = iter(["He says nothing.", GOOD])
    fake.answers["merge"] = lambda request: next(answers)
    assert PromptWriter(asking(fake)).write(IDEA) == GOOD
    fake.answers["merge"] = "He says nothing."
    with pytest.raises(EndpointError, match="changes the words that the idea quotes"):
        PromptWriter(asking(fake)).write(IDEA)
    fake.answers["merge"] = GOOD + "\ud800"
    with pytest.raises(EndpointError, match="holds control characters"):
        PromptWriter(asking(fake)).write(IDEA)
    fake.answers["merge"] = "word " * 2000
    with pytest.raises(EndpointError, match="at most 4,000 are taken"):
        PromptWriter(asking(fake)).write("a pier")


def test_ideas_that_cannot_be_rewritten_are_refused_before_anything_is_asked(fake: FakeEndpoint) -> None:
    for idea in ("  ", "x" * 10_001):
        with pytest.raises(InputError, match="the idea"):
            PromptWriter(asking(fake)).write(idea)
    assert not fake.requests


def test_what_is_missing_is_said_in_one_line() -> None:
    lone = run("a pier")
    assert lone.exit_code == 2
    assert "--endpoint http://localhost:8080/v1 --model qwen3" in lone.output
    assert "needs a model" in run("a pier", "--endpoint", "http://localhost:1/v1").output
    assert "has no endpoint" in run("a pier", "--model", "m").output
    assert "not into its address" in run("a pier", "--endpoint", "http://u:p@localhost/v1", "--model", "m").output
    with pytest.raises(InputError, match="--first-frame-model gpt-image-1"):
        first_frame_options("http://localhost:1/v1", None)
    with pytest.raises(InputError, match="is a model already"):
        first_frame_options("some/model", "gpt-image-1")


def test_the_command_prints_the_prompt_alone_and_draws_its_first_frame(
    fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret-key")
    target = tmp_path / "frame.png"
    drawn = ("--first-frame-from", fake.url, "--first-frame-model", "painter", "--size", "96x64", "-o", target)
    done = run(IDEA, "--endpoint", fake.url, "--model", "writer", *drawn)
    assert done.exit_code == 0, done.output
    assert done.stdout == GOOD + "\n"
    assert "secret-key" not in done.output
    assert Image.open(target).size == (96, 64)
    asked = fake.requests[-1]
    assert (asked["model"], asked["size"], asked["key"]) == ("painter", "96x64", "Bearer secret-key")
    assert GOOD in asked["prompt"]
    again = run(IDEA, "--endpoint", fake.url, "--model", "writer", *drawn)
    assert again.exit_code == 2
    assert len(fake.requests) == 2, "the file exists: nothing is asked for"


def test_the_command_names_the_endpoint_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phonofilm.writing.writing_endpoint.RETRIES", 0)
    dead = run(IDEA, "--endpoint", "http://127.0.0.1:1/v1", "--model", "writer")
    assert dead.exit_code == 1
    assert "http://127.0.0.1:1/v1: " in dead.stderr
    assert "refused" in dead.stderr


def test_servers_that_know_no_response_format_draw_too_and_addresses_are_not_followed(
    fake: FakeEndpoint, tmp_path: Path
) -> None:
    source = EndpointFrames(asking(fake))
    fake.strict = True
    write_first_frame(source, "a pier", tmp_path / "a.png", None, None)
    assert fake.requests[-1]["size"] == source.usual_size
    fake.answers["image"] = {"url": "http://127.0.0.1:1/picture.png"}
    with pytest.raises(EndpointError, match="not followed"):
        write_first_frame(source, "a pier", tmp_path / "b.png", None, None)
    fake.answers["image"] = {"b64_json": base64.b64encode(b"no picture").decode()}
    with pytest.raises(MediaError):
        write_first_frame(source, "a pier", tmp_path / "c.png", None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.slow  # imports every pipeline of diffusers
def test_a_folder_that_is_no_text_to_image_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text-to-image model"):
        write_first_frame(DiffusersFrames(str(tmp_path)), "a pier", tmp_path / "a.png", "64x64", 1)


def test_a_hub_out_of_reach_is_not_a_model_of_the_wrong_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoNetwork:
        @staticmethod
        def from_pretrained(model: str, **options: object) -> None:
            try:
                raise ConnectionError("Name or service not known")
            except ConnectionError as error:
                raise OSError("there is no file named model_index.json") from error

    monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace(AutoPipelineForText2Image=NoNetwork))
    with pytest.raises(InputError, match="'owner/name' is not on this machine, and the hub cannot be reached"):
        DiffusersFrames("owner/name", "cpu").draw("a pier", 64, 64, 1)
    with pytest.raises(InputError, match="no text-to-image model"):
        DiffusersFrames(str(tmp_path), "cpu").draw("a pier", 64, 64, 1)


def test_nobody_is_asked_for_a_prompt_whose_first_frame_cannot_be_drawn(
    fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace(AutoPipelineForText2Image=NoPipeline))
    asked = (IDEA, "--endpoint", fake.url, "--model", "writer", "-o", tmp_path / "a.png")
    no_model = run(*asked, "--first-frame-from", tmp_path)
    assert no_model.exit_code == 2
    assert "no text-to-image model" in no_model.stderr
    no_size = run(*asked, "--first-frame-from", fake.url, "--first-frame-model", "painter", "--size", "9000x64")
    assert no_size.exit_code == 2
    assert fake.requests == []


class NoPipeline:
    @staticmethod
    def from_pretrained(model: str, **options: object) -> None:
        raise OSError("there is no file named model_index.json")


def test_a_worker_rewrites_the_prompt_and_never_falls_back(
    fake: FakeEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options, endpoint = ClipOptions(prompt=IDEA, seed=3), WritingEndpoint(fake.url, "writer")
    written = with_enhanced_prompt(options, endpoint, 4.0, silent)
    assert (written.prompt, written.seed) == (GOOD, 3)
    with pytest.raises(PhonofilmError, match="without a writing endpoint"):
        with_enhanced_prompt(options, None, 4.0, silent)
    fake.failures = [(401, {})]
    with pytest.raises(PhonofilmError) as refused:
        with_enhanced_prompt(options, endpoint, 4.0, silent)
    assert not isinstance(refused.value, InputError | Hopeless), "it is the server's fault, not the client's"
    assert "not now" not in str(refused.value)
    assert Hopeless.__name__ in caplog.text
    assert "fisherman" not in caplog.text


def test_a_job_that_is_cancelled_meanwhile_stops(fake: FakeEndpoint) -> None:
    seen: list[Event] = []

    def stop_after_the_first(event: Event) -> Any:
        seen.append(event)
        return len(seen) < 2

    with pytest.raises(Cancelled):
        with_enhanced_prompt(ClipOptions(prompt=IDEA), WritingEndpoint(fake.url, "writer"), 4.0, stop_after_the_first)


def test_the_api_takes_enhance_prompt_where_the_operator_named_a_model(tmp_path: Path) -> None:
    client = client_of(services_in(tmp_path, writing=WritingEndpoint("http://127.0.0.1:1/v1", "writer")))
    made = client.post("/v1/videos", json={"prompt": IDEA, "enhance_prompt": True})
    assert made.status_code == 200, made.text
    with_times = {"prompt": "0-2: a ball; 2-4: a lamp", "enhance_prompt": True}
    refused = client.post("/v1/videos", json=with_times).json()["error"]
    assert refused["param"] == "enhance_prompt"
    assert "times" in refused["message"]


def test_the_studio_shows_what_is_written_before_anything_is_made(fake: FakeEndpoint, tmp_path: Path) -> None:
    services = services_in(tmp_path, writing=WritingEndpoint(fake.url, "writer"))
    client = client_of(services)
    told = client.post("/v1/studio/prompt", json={"prompt": IDEA, "seconds": 4})
    assert told.json() == {"prompt": GOOD}
    assert "4 seconds long" in fake.requests[-1]["texts"][0]
    fake.failures = [(401, {})]
    refused = client.post("/v1/studio/prompt", json={"prompt": IDEA, "model": "nano"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "writing_failed")
    assert "status 401" in refused.json()["error"]["message"]
    assert "fisherman" not in refused.text
    for fields, param in (({"prompt": "0-2: a ball; 2-4: a lamp"}, "enhance_prompt"), ({"prompt": ""}, "prompt")):
        assert client.post("/v1/studio/prompt", json=fields).json()["error"]["param"] == param
    for _ in range(WRITING):
        services.writing.acquire()
    assert client.post("/v1/studio/prompt", json={"prompt": IDEA}).json()["error"]["code"] == "writing_busy"


def test_a_written_text_is_used_again_and_not_written_anew(tmp_path: Path) -> None:
    services = services_in(tmp_path, writing=WritingEndpoint("http://127.0.0.1:1/v1", "writer"))
    services.media = InThisProcess()
    client, claims = client_of(services), Claims(services.database, "w")
    made = client.post("/v1/videos", json={"prompt": IDEA, "enhance_prompt": True}).json()
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    file = save_clip(Clip(np.zeros((2, 16, 16, 3), np.uint8), Fraction(24), None, None, {}), tmp_path / "a.mp4")
    services.store.put(f"outputs/{job.id}/1-0-video.mp4", file)
    outputs = [{"video": f"outputs/{job.id}/1-0-video.mp4"}]
    assert claims.complete(job, outputs, {"seeds": [5], "prompt": GOOD}, 10, None)
    clip = client.get(f"/v1/studio/clips/{made['id']}_0").json()
    assert (clip["prompt"], clip["revised_prompt"]) == (IDEA, GOOD)
    settings = client.get(f"/v1/studio/clips/{made['id']}_0/settings").json()
    assert settings["request"] == {"prompt": GOOD, "model": "nano", "seed": 5}
    varied = client.post(f"/v1/studio/clips/{made['id']}_0/variations", json={"count": 1}).json()["data"][0]
    assert (varied["prompt"], "enhance_prompt" in varied["request"]) == (GOOD, False)


def test_settings_with_an_endpoint_travel_to_workers(tmp_path: Path) -> None:
    settings = WorkerSettings({"nano": "nano"}, writing=WritingEndpoint("http://127.0.0.1:1/v1", "writer"))
    assert WorkerSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_half_an_endpoint_is_refused_and_none_is_none() -> None:
    assert writing_endpoint(None, None) is None
    assert writing_endpoint("http://localhost:1/v1", "m") == WritingEndpoint("http://localhost:1/v1", "m")
    with pytest.raises(InputError, match="no address"):
        writing_endpoint("localhost", "m")


@pytest.mark.slow  # imports every pipeline of diffusers
def test_a_model_of_diffusers_draws_the_same_picture_for_a_seed(tmp_path: Path) -> None:
    model = tiny_text_to_image(tmp_path / "model")
    one, same, other = (
        write_first_frame(DiffusersFrames(str(model), "cpu"), "a pier", tmp_path / f"{number}.png", "128x64", seed)
        for number, seed in enumerate((1, 1, 2))
    )
    assert Image.open(one).size == (128, 64)
    assert one.read_bytes() == same.read_bytes() != other.read_bytes()


def tiny_text_to_image(folder: Path) -> Path:
    """An untrained PixArt, of the sizes that make it small."""
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(GOLDENS / "basic" / "checkpoint" / "tokenizer")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    pipeline = PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(T5Config(vocab_size=len(tokenizer), **sizes)),
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), norm_num_groups=8, latent_channels=4, sample_size=64,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        transformer=PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, num_layers=1, out_channels=8, cross_attention_dim=16,
            caption_channels=16, sample_size=32, norm_num_groups=8,
        ),
        scheduler=DPMSolverMultistepScheduler(),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
