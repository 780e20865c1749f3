"""The Triton kernels compile for the cards they are meant for, which needs their compiler and no card."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="the package triton is not installed: pip install phonofilm[kernels]",
)


def compiled(cache: Path, capability: int, *dtypes: str) -> list[str]:
    """What was compiled, a line for each kernel."""
    program = Path(__file__).parent / "compile_kernels.py"
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, str(program), str(capability), *dtypes]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.parametrize(("capability", "count"), [(80, 5), (90, 9)], ids=["A100", "H100"])
def test_all_kernels_compile_and_those_of_fp8_where_it_exists(tmp_path: Path, capability: int, count: int) -> None:
    lines = compiled(tmp_path, capability, "bf16")
    assert len(lines) == count
    assert any("QUANTIZES': True" in line for line in lines) == (capability >= 89)


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "count"), [(80, 10), (86, 10), (89, 18), (90, 18), (100, 18), (120, 18)])
def test_all_kernels_compile_in_both_dtypes_for_every_kind_of_card(tmp_path: Path, capability: int, count: int) -> None:
    assert len(compiled(tmp_path, capability, "bf16", "fp32")) == count
