"""The files of pinned versions: every version is pinned with the hashes of its files, and none with another's."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_pinned_version_has_the_hashes_of_its_files() -> None:
    pins = {
        normalised(n): v for n, v in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    }
    text = (ROOT / "constraints-hashes.txt").read_text().replace("\\\n", "")
    hashed = {name: (version, rest) for name, version, rest in re.findall(r"^([\w.-]+)==(\S+)(.*)$", text, re.M)}
    assert {name: hashed.get(name, ("none",))[0] for name in pins} == pins, "run scripts/hash_constraints.py"
    for name, (_, rest) in hashed.items():
        assert re.fullmatch(r"(\s+--hash=sha256:[0-9a-f]{64})+", rest), name
