"""Finding and fetching models: short names, folders, the hub's cache and a hub of our own on localhost. No network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from tests.unit.checkpoints import GOLDEN, WEIGHTS, copy_golden
from tests.unit.fake_hub import COMMIT, FakeHub, serve
from typer.testing import CliRunner

from phonofilm.cli.models import app
from phonofilm.errors import CheckpointError, InputError
from phonofilm.models import hub as models_hub
from phonofilm.models.checksums import CHECKSUMS, expected_digest
from phonofilm.models.health import health
from phonofilm.models.hub import download_model, local_state, plan_download, require_space, resolve_model
from phonofilm.models.known import hub_id_of
from phonofilm.models.layout import read_layout

REPO = "OpenMOSS-Team/MOVA-360p"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, in which all that runs in this test looks."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has the golden checkpoint, and beside it what must never be fetched."""
    source = copy_golden(tmp_path)
    (source / "video_dit" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (source / "video_dit" / "modeling.py").write_text("raise SystemExit")
    (source / "README.md").write_text("# MOVA")
    with serve(FakeHub(REPO, source)) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield running


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_HUB_OFFLINE=1 in the environment of a new process."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_short_names_and_hub_ids() -> None:
    assert [hub_id_of(name) for name in ("360p", "720p", "a/b-c.d")] == [REPO, "OpenMOSS-Team/MOVA-720p", "a/b-c.d"]
    for name in ("480p", "/no/such/folder", "", "a/b/c"):
        with pytest.raises(
            InputError, match=r"expected a checkpoint folder, a hub id .owner/name., or one of nano, 360p, 720p"
        ):
            hub_id_of(name)


def test_a_folder_is_itself_unless_it_has_a_short_name(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "360p").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model(tmp_path) == tmp_path
    assert resolve_model("./360p") == Path("./360p")
    with pytest.raises(CheckpointError, match=REPO):
        resolve_model("360p", local_files_only=True)


def test_nano_is_in_the_package_or_says_that_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_hub, "PACKAGED_WEIGHTS", tmp_path / "weights")
    assert local_state("nano").state == "absent"
    with pytest.raises(CheckpointError, match="has no embedded model"):
        resolve_model("nano")
    copy_golden(tmp_path).rename(tmp_path / "weights")
    assert resolve_model("nano") == tmp_path / "weights"
    assert local_state("nano").state == "complete"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["360p", "someone/else"])
def test_without_a_network_the_error_says_what_to_run(name: str, offline: None) -> None:
    with pytest.raises(CheckpointError, match=f"is not in the local cache.*run: phonofilm models download {name}"):
        resolve_model(name)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
        download_model(name)


def test_a_model_is_downloaded_once_and_without_pickles_or_code(hub: FakeHub, cache: Path) -> None:
    folder = resolve_model("360p")
    wanted = {name for name in hub.files() if not name.endswith((".bin", ".py", ".md"))}
    assert set(hub.fetched) <= wanted  # two files of one content are fetched once
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == wanted
    assert len(read_layout(folder).components) == 7
    hub.fetched.clear()
    assert resolve_model("360p") == folder
    assert resolve_model("360p", local_files_only=True) == folder
    assert resolve_model(REPO, revision=COMMIT) == folder
    assert hub.fetched == []


def test_what_was_begun_is_resumed(hub: FakeHub, cache: Path) -> None:
    folder = resolve_model("360p")
    lost = folder / "video_dit" / WEIGHTS
    lost.resolve().unlink()
    lost.unlink()
    assert local_state("360p").state == "partial"
    with pytest.raises(CheckpointError, match="is only partly in the local cache"):
        resolve_model("360p", local_files_only=True)
    hub.fetched.clear()
    plan = plan_download("360p")
    assert (plan.missing_files, plan.missing_bytes) == (1, (GOLDEN / "video_dit" / WEIGHTS).stat().st_size)
    assert resolve_model("360p") == folder
    assert hub.fetched == [f"video_dit/{WEIGHTS}"]
    assert local_state("360p").state == "complete"


def test_a_cache_without_a_listing_is_judged_by_its_files(hub: FakeHub, cache: Path) -> None:
    folder = resolve_model("360p")
    for listing in cache.rglob("trees/*.json"):
        listing.unlink()
    assert local_state("360p").state == "complete"
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    assert local_state("360p").state == "partial"


def test_the_plan_says_what_where_and_whether_it_fits(hub: FakeHub, cache: Path) -> None:
    plan = plan_download("360p")
    assert (plan.hub_id, plan.commit, plan.destination) == (REPO, COMMIT, cache)
    wanted = [path for name, path in hub.files().items() if not name.endswith((".bin", ".py", ".md"))]
    assert (plan.files, plan.missing_files) == (len(wanted), len(wanted))
    assert plan.nbytes == plan.missing_bytes == sum(path.stat().st_size for path in wanted)
    assert hub.fetched == []
    require_space(plan)
    with pytest.raises(CheckpointError, match=f"{REPO} needs 77.7 GB more in .*, where 1.0 GB are free; make room"):
        require_space(dataclasses.replace(plan, missing_bytes=77_700_000_000, free_bytes=10**9))


def test_a_download_that_stops_says_that_it_resumes(hub: FakeHub, cache: Path) -> None:
    hub.broken = "audio_vae/config.json"
    with pytest.raises(
        CheckpointError, match=r"(?s)stopped: .*run it again, it resumes: phonofilm models download 360p"
    ):
        resolve_model("360p")
    hub.broken = ""
    resolve_model("360p")


@pytest.mark.usefixtures("hub")
def test_a_model_the_hub_does_not_have() -> None:
    with pytest.raises(CheckpointError, match="the hub has no someone/else, or needs a login"):
        resolve_model("someone/else")


@pytest.mark.usefixtures("cache")
def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=f"cannot reach the hub for {REPO}"):
        resolve_model("360p")


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("plain", [False, True], ids=["cache", "folder"])
def test_checksums_of_downloaded_files_are_compared(tmp_path: Path, plain: bool) -> None:
    folder = download_model("360p", local_dir=tmp_path / "plain" if plain else None)
    good = [finding for finding in health(folder, checksums=True) if finding.subject == "checksums"]
    files = len([path for path in GOLDEN.rglob("*") if path.is_file()])
    assert [f.message for f in good] == [f"{files} of {files} files have a known digest, and it is right"]
    for name in (f"audio_dit/{WEIGHTS}", "audio_dit/config.json"):
        digest = expected_digest(folder, folder / name)
        assert digest is not None
        assert len(digest) == (40 if name.endswith("json") else 64)
        content = bytearray((folder / name).read_bytes())
        content[-3] ^= 1
        (folder / name).write_bytes(content)
    damaged = [finding.subject for finding in health(folder, checksums=True) if "is damaged" in finding.message]
    assert damaged == ["audio_dit/config.json", f"audio_dit/{WEIGHTS}"]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.usefixtures("hub")
def test_the_commands_list_download_and_verify() -> None:
    code, said = run("download", "360p", "--dry-run")
    assert (code, "still to fetch: 18 files" in said) == (0, True), said
    assert "no" in row(run("list")[1], "360p")
    code, said = run("download", "360p")
    assert (code, "ready: " in said) == (0, True), said
    assert "complete" in row(run("list")[1], "360p")
    code, said = run("verify", "360p", "--deep")
    assert (code, "fit for use" in said, "every number is finite" in said) == (0, True, True), said
    assert "have a known digest" in said
    assert "have a known digest" not in run("verify", "360p", "--no-checksums")[1]


def test_verify_of_a_relative_folder_names_the_damaged_file_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged = copy_golden(tmp_path) / "scheduler" / "scheduler_config.json"
    (damaged.parents[1] / CHECKSUMS).write_text(f"{'0' * 64}  scheduler/{damaged.name}\n")
    code, said = run("verify", damaged.parents[1].name)
    assert (code, f"delete {damaged} and" in said) == (1, True), said


@pytest.mark.usefixtures("hub")
def test_verify_of_a_partial_download_says_what_is_missing() -> None:
    folder = resolve_model("360p")
    (folder / "audio_vae" / WEIGHTS).unlink()
    code, said = run("verify", "360p")
    assert (code, "not fit for use" in said) == (1, True)
    assert "audio_vae has no weights; expected diffusion_pytorch_model.safetensors" in row(said, "audio_vae")
    assert "part: " in row(run("list")[1], "360p")


@pytest.mark.usefixtures("hub")
def test_download_to_a_folder_and_verify_it(tmp_path: Path) -> None:
    assert run("download", "360p", "--output", str(tmp_path / "mova"), "--revision", "main")[0] == 0
    assert len(read_layout(tmp_path / "mova").components) == 7
    assert run("verify", str(tmp_path / "mova"))[0] == 0


@pytest.mark.usefixtures("cache")
def test_commands_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InputError, match="nothing to download"):
        run("download", "nano")
    with pytest.raises(CheckpointError, match="720p is not in the local cache, or not far enough"):
        run("verify", "720p")


def row(table: str, name: str) -> str:
    return next(line for line in table.splitlines() if f" {name} " in line)
