"""Memory while loading: at most 1.2 times the bytes of the weights that are kept, whatever the file's dtype."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.unit.checkpoints import WEIGHTS

from phonofilm.models.building import empty_module

CONFIG = {
    "_class_name": "WanModel",
    "dim": 1024,
    "in_dim": 36,
    "ffn_dim": 4096,
    "out_dim": 16,
    "text_dim": 512,
    "freq_dim": 256,
    "eps": 1e-6,
    "patch_size": [1, 2, 2],
    "num_heads": 8,
    "num_layers": 4,
}

# Runs in a process of its own: the peak is the kernel's count for the whole process, reset just before loading.
MEASURE = """
import sys
from pathlib import Path
import torch
from phonofilm.models.layout import CheckpointLayout, read_component
from phonofilm.models.scalars import PipelineScalars
from phonofilm.models.loading import load_component

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024

torch.set_num_threads(1)
root = Path(sys.argv[1])
component = read_component(root, "video_dit", "WanModel")
layout = CheckpointLayout(root, {"video_dit": component}, "T5TokenizerFast", {}, PipelineScalars())
for dtype in (None, torch.bfloat16):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    network = load_component(layout, "video_dit", dtype)
    touched = sum(int(p.data.view(-1).view(torch.uint8)[::4096].sum()) for p in network.parameters())
    print(sum(p.nbytes for p in network.parameters()), resident("VmHWM") - before)
    del network
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float32 expert of 300 MB, of random weights."""
    root = tmp_path_factory.mktemp("checkpoint")
    (root / "video_dit").mkdir()
    (root / "video_dit" / "config.json").write_text(json.dumps(CONFIG))
    state = empty_module("WanModel", CONFIG, "config.json").state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {key: torch.empty(tensor.shape).uniform_(generator=generator) for key, tensor in state.items()}
    save_file(weights, root / "video_dit" / WEIGHTS)
    assert sum(tensor.nbytes for tensor in weights.values()) > 290_000_000
    return root


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's own account of a process's peak")
def test_loading_peaks_at_1_2_times_the_weights_it_keeps(checkpoint: Path) -> None:
    command = [sys.executable, "-c", MEASURE, str(checkpoint)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    as_stored, as_bfloat16 = (tuple(map(int, line.split())) for line in lines)
    assert as_stored[0] == 2 * as_bfloat16[0]
    for kept, peak in (as_stored, as_bfloat16):
        assert peak <= 1.2 * kept, f"{peak / 1e6:.0f} MB for {kept / 1e6:.0f} MB of weights"
        assert peak > 0.9 * kept, "the weights were not all touched: the measure is wrong"
