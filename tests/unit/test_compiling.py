"""Compiled layers give the eager ones' numbers, layers of one kind share their code, and streaming goes through them."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import Golden, relative_error

from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import DualTowerConditionalBridge
from phonofilm.models.compiling import compile_layers
from phonofilm.models.joint import JointDenoiser
from phonofilm.models.shared_forward import Conditioning, StepInputs, forward_one
from phonofilm.models.video import WanModel
from phonofilm.runtime.backends import HostBackend
from phonofilm.runtime.layer_streaming import LayerStreamer

BOUND = 1e-5


@pytest.mark.slow
def test_compiled_layers_agree_with_eager_ones_resident_and_streamed(basic: Golden) -> None:
    denoiser = JointDenoiser(
        WanModel.from_pretrained(basic.checkpoint / "video_dit"),
        WanAudioModel.from_pretrained(basic.checkpoint / "audio_dit"),
        DualTowerConditionalBridge.from_pretrained(basic.checkpoint / "dual_tower_bridge"),
    )
    denoiser.eval().requires_grad_(False)
    inputs = StepInputs(
        basic["video_dit/x"], basic["audio_dit/x"], basic["video_dit/t"], basic["audio_dit/t"], basic.meta["frame_rate"]
    )
    conditioning = Conditioning(basic["video_dit/context"])
    with torch.no_grad():
        eager = forward_one(denoiser, inputs, conditioning)
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compile_layers([denoiser.video, denoiser.audio, denoiser.bridge])
        compiled = forward_one(denoiser, inputs, conditioning)
        streamer = LayerStreamer([denoiser], HostBackend(), slots=2)
        (streamed,) = streamer.forward_many(inputs, [conditioning])
        streamer.close()
    # Video block, audio block, and the bridge's two directions, whatever the number of layers.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 4
    assert not torch._dynamo.utils.counters["graph_break"]
    assert relative_error(compiled.video, eager.video) < BOUND
    assert relative_error(compiled.audio, eager.audio) < BOUND
    assert torch.equal(streamed.video, compiled.video)
    assert torch.equal(streamed.audio, compiled.audio)
