"""Which LoRA files a server offers, and what its errors call them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.unit.serving_helpers import client_of, services_in

from phonofilm.errors import CheckpointError, InputError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.placement.hardware import HardwareOptions
from phonofilm.lora.glance import check_looks_like_lora
from phonofilm.lora.reading import read_lora
from phonofilm.models.checkpoint_files import STUDENT_FILE
from phonofilm.models.hub import PACKAGED_WEIGHTS
from phonofilm.serving.engines.sglang_limits import check_sglang_can
from phonofilm.serving.jobs.claims import Claims
from phonofilm.serving.jobs.job import JobRequest
from phonofilm.serving.jobs.job_queue import find
from phonofilm.serving.security.access import OPEN_ACCESS
from phonofilm.serving.settings import parse_loras
from phonofilm.serving.studio.files import missing_loras
from phonofilm.serving.studio.plan_work import plan_clip_here
from phonofilm.serving.worker.failures import without_paths
from phonofilm.serving.worker.held_job import HeldJob
from phonofilm.serving.worker.sessions import SessionMaker

STUDENTS_STEPS = 4
ADAPTER = {"a.lora_A.weight": torch.zeros(1, 2), "a.lora_B.weight": torch.zeros(2, 1)}


def broken_files(folder: Path) -> dict[str, str]:
    """File names and the beginning of what is said of them."""
    save_file(ADAPTER, folder / "good.safetensors")
    whole = (folder / "good.safetensors").read_bytes()
    (folder / "text.safetensors").write_text("hello, this is no LoRA")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "cut.safetensors").write_bytes(whole[:-4])
    (folder / "damaged.safetensors").write_bytes(whole[:8] + b"[" + whole[9:])
    save_file({"a.weight": torch.zeros(2)}, folder / "weights.safetensors")
    save_file({**ADAPTER, "a.weight": torch.zeros(2), "b.diff": torch.zeros(2)}, folder / "mixed.safetensors")
    save_file({**ADAPTER, "b.lora_up.weight": torch.zeros(2, 1)}, folder / "half.safetensors")
    save_file({**ADAPTER, "a.lora_down.weight": torch.zeros(1, 2)}, folder / "twice.safetensors")
    return {
        "text": "is no safetensors file",
        "empty": "is no safetensors file",
        "cut": "is truncated",
        "damaged": "has a corrupt safetensors header",
        "weights": "is no LoRA: none of its tensors is one's",
        "mixed": "has tensors that are no part of a LoRA (expected lora_A/lora_B, lora_down/lora_up): a.weight, b.diff",
        "half": "has half a LoRA: b lacks its lora_A",
        "twice": "has tensors that are no part of a LoRA",
    }


def test_of_a_folder_only_loras_are_offered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults = broken_files(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert list(parse_loras([str(tmp_path)])) == ["good"]
    said = sorted(f"not offered as a LoRA: {tmp_path / name}.safetensors {why}" for name, why in faults.items())
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == len(said)
    assert all(message.startswith(beginning) for message, beginning in zip(found, said, strict=True))


def test_a_named_file_that_is_no_lora_is_refused_at_the_start(tmp_path: Path) -> None:
    for name, fault in broken_files(tmp_path).items():
        with pytest.raises(CheckpointError) as error:
            parse_loras([f"voice={tmp_path / name}.safetensors"])
        assert str(error.value).startswith(f"{tmp_path / name}.safetensors {fault}")


def test_every_layout_of_names_is_known(tmp_path: Path) -> None:
    check_looks_like_lora(PACKAGED_WEIGHTS / STUDENT_FILE)
    for down, up in (
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_down.weight", "lora_up.weight"),
        ("lora_A", "lora_B"),
    ):
        tensors = {f"blocks.0.q.{half}": torch.ones(1, 1) for half in (down, up)} | {
            "blocks.0.q.alpha": torch.tensor(1.0)
        }
        save_file(tensors, tmp_path / "one.safetensors")
        check_looks_like_lora(tmp_path / "one.safetensors")


def test_what_a_server_offers_is_what_can_be_read(tmp_path: Path) -> None:
    for name in ("good", *broken_files(tmp_path)):
        file = tmp_path / f"{name}.safetensors"
        faults = []
        for look in (check_looks_like_lora, read_lora):
            try:
                look(file)
            except CheckpointError:
                faults.append(look)
        assert len(faults) in (0, 2), f"{name} is taken by one of them alone"


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "lora_weights.pt").write_bytes(b"anything")
    check_looks_like_lora(tmp_path / "lora_weights.pt")


def test_errors_name_a_lora_as_clients_do() -> None:
    loras = {"voice": "/srv/loras/v3-final.safetensors"}
    said = without_paths("/srv/loras/v3-final.safetensors has no layer a; see /srv/x.txt", "/srv/store", loras)
    assert said == "the LoRA voice has no layer a; see x.txt"
    said = without_paths("there is no LoRA at /srv/loras/v3-final.safetensors: no such file", "/srv/store", loras)
    assert said == "there is no LoRA voice: no such file"


def test_a_strength_that_spoils_a_few_step_lora_is_among_the_jobs_warnings(tmp_path: Path) -> None:
    student = shutil.copy(Path(PACKAGED_WEIGHTS) / STUDENT_FILE, tmp_path / "quick.safetensors")
    services = services_in(tmp_path, loras={"fast": str(student)}, hardware=HardwareOptions(device="cpu"))
    client = client_of(services)
    asked = {"prompt": "A red ball bounces.", "size": "32x32", "num_frames": 5, "num_inference_steps": 1, "user": "me"}
    video = client.post("/v1/videos", json={**asked, "loras": "fast:0.5"}).json()["id"]
    claims = Claims(services.database, "a")
    job = claims.claim(["nano"], [], 60)
    assert job is not None
    made = SessionMaker(services.worker).make(job, HeldJob(claims, job, 600), services.store)
    assert claims.complete(job, made.outputs, made.about, made.nbytes, None)
    ignored, *spoilt = client.get(f"/v1/videos/{video}").json()["warnings"]
    assert ignored.startswith("user is ignored")
    assert any(one.startswith("LoRA fast (0.5): its few steps were learnt at strength 1") for one in spoilt), spoilt
    assert "quick" not in str(spoilt)


def test_no_lora_at_all_takes_the_models_own_student_away(tmp_path: Path) -> None:
    services = services_in(tmp_path, loras={"fast": "/srv/fast.safetensors"}, hardware=HardwareOptions(device="cpu"))
    client = client_of(services)

    def asked(loras: Any) -> tuple[list[str] | None, int]:
        video = client.post("/v1/videos", json={"prompt": "A red ball bounces.", "loras": loras})
        assert video.status_code == 200, video.text
        job = find(services.database, video.json()["id"], OPEN_ACCESS)
        assert job is not None
        found = plan_clip_here(services.worker, "nano", job.request.options, {}, job.request.loras)
        assert found is not None
        return job.request.loras, found.clip.steps

    assert asked(None) == (None, STUDENTS_STEPS)
    assert asked([]) == ([], STUDENTS_STEPS)
    teachers = asked(["none"])
    assert teachers == asked("none") == asked(["none", "none"])
    assert teachers[0] == ["none"]
    assert teachers[1] > STUDENTS_STEPS
    assert client.post("/v1/set_lora", json={"lora_nickname": "none"}).json()["loaded"] == ["none"]
    assert asked(None) == teachers
    refused = client.post("/v1/videos", json={"prompt": "x", "loras": ["none", "fast"]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "loras")
    assert "none takes all LoRAs away, and fast was given too" in refused.json()["error"]["message"]


def test_a_clip_without_loras_lacks_none_to_be_made_again(tmp_path: Path) -> None:
    services = services_in(tmp_path, loras={"fast": "/srv/fast.safetensors"})
    for given, lacks in ((["none"], []), (["fast"], []), (["gone:0.5"], ["the LoRA gone:0.5 is not offered here"])):
        assert missing_loras(services, JobRequest({}, loras=given)) == lacks


def test_no_lora_is_called_as_no_lora_at_all(tmp_path: Path) -> None:
    save_file(ADAPTER, tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="a LoRA named 'none' could not be asked for"):
        parse_loras([str(tmp_path / "none.safetensors")])
    assert list(parse_loras([f"other={tmp_path / 'none.safetensors'}"])) == ["other"]


def test_sglang_makes_clips_without_loras() -> None:
    options = ClipOptions(prompt="A lamp.")
    check_sglang_can(options, ["image"], ["none"], "360p")
    with pytest.raises(InputError, match="lora: not with the engine SGLang"):
        check_sglang_can(options, ["image"], ["fast"], "360p")
