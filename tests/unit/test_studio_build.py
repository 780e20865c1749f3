"""The studio's built files: made from the source that is there, small, asking nobody else; and the same when built again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.serving_helpers import services_in

from phonofilm.serving.api.app import create_api
from phonofilm.serving.security.sniffing import BEGINNINGS, SNIFFED_BYTES, TAKEN

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
BUILT = ROOT / "src" / "phonofilm" / "serving" / "studio" / "static"
# As in web/vite.config.ts.
SOURCE = ("index.html", "package-lock.json", "package.json", "svelte.config.js", "vite.config.ts", "public", "src")
MOST_SCRIPT_BYTES = 250_000
MOST_FILE_LINES = 300


def source_files() -> list[str]:
    """Paths below web/ that the built files are made from, sorted as JavaScript sorts."""
    found = [path for name in SOURCE for path in ([WEB / name] if "." in name else (WEB / name).rglob("*"))]
    return sorted(path.relative_to(WEB).as_posix() for path in found if path.is_file())


def test_the_page_was_built_from_this_source() -> None:
    digest = hashlib.sha256()
    for name in source_files():
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    built = (BUILT / "source.txt").read_text().strip()
    assert built == digest.hexdigest(), "web/ was changed: run `npm ci && npm run build` there, and commit the result"


def test_the_scripts_stay_small() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in BUILT.rglob("*.js")}
    assert 0 < sum(sizes.values()) < MOST_SCRIPT_BYTES, sizes


def test_nothing_in_the_page_leads_elsewhere() -> None:
    """Addresses of XML's own name spaces, and those in texts of errors, are asked by nobody."""
    for path in BUILT.rglob("*"):
        if path.suffix in (".js", ".css", ".html"):
            hosts = set(re.findall(r"(?:https?:)?//([a-z0-9-]+(?:\.[a-z0-9-]+)+)", path.read_text()))
            assert hosts <= {"www.w3.org", "svelte.dev"}, (path.name, hosts)


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]


def test_source_files_are_short() -> None:
    texts = [name for name in source_files() if name.startswith("src/") and not name.endswith(".d.ts")]
    long = {name: lines for name in texts if (lines := len((WEB / name).read_text().splitlines())) > MOST_FILE_LINES}
    assert long == {}


def test_the_pages_types_are_the_servers(tmp_path: Path) -> None:
    """Names of answers and of their fields, as scripts/studio_types.py writes them."""
    described = create_api(services_in(tmp_path)).openapi()["components"]["schemas"]
    lines = (WEB / "src" / "api" / "schema.d.ts").read_text().splitlines()
    written: dict[str, list[str]] = {}
    for line in lines[lines.index("    schemas: {") + 1 :]:
        if answer := re.fullmatch(r"        (\w+)(?:: .*;|: \{)", line):
            written[answer[1]] = []
        elif field := re.match(r'            "?([\w-]+)"?\??: ', line):
            written[list(written)[-1]].append(field[1])
        elif line == "    };":
            break
    expected = {name: list(schema.get("properties", {})) for name, schema in described.items()}
    assert written == expected, "the API was changed: run `python scripts/studio_types.py`, and build web/ again"


def test_the_page_takes_files_for_what_the_server_takes_them() -> None:
    """The same rules in the same order, the same kinds in the same words, and as many bytes of a file as the rules look at."""
    text = (WEB / "src" / "lib" / "kinds.ts").read_text()
    rules = re.findall(r"^  \[/\^(.*)/s, \"(\w+)\"\],$", text, re.MULTILINE)
    assert rules == [(beginning.decode(), kind) for beginning, kind, _ in BEGINNINGS]
    assert dict(re.findall(r"^  (image|video|audio): \"(an? \w+, .*)\",$", text, re.MULTILINE)) == TAKEN
    assert f"const SNIFFED_BYTES = {SNIFFED_BYTES};" in text


@pytest.mark.slow
def test_building_again_gives_the_same_files(tmp_path: Path) -> None:
    """In a copy, with packages as the lock file has them; also checks the types."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    web = tmp_path / "web"
    web.mkdir()
    for name in (*SOURCE, "tsconfig.json", ".npmrc"):
        copy = shutil.copytree if (WEB / name).is_dir() else shutil.copy
        copy(WEB / name, web / name)
    environment = {**os.environ, "CI": "1"}
    for command in (["ci"], ["run", "check"], ["run", "build"]):
        subprocess.run([npm, *command], cwd=web, env=environment, check=True, stdout=subprocess.DEVNULL)
    again = tmp_path / "src" / "phonofilm" / "serving" / "studio" / "static"
    files = {path.relative_to(BUILT): path.read_bytes() for path in BUILT.rglob("*") if path.is_file()}
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == files
