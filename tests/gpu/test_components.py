"""Autoencoders and text encoder on a device answer what the host answers, offloaded, streamed, and in tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from phonofilm.models.compiling import compile_layers, require_compiler
from phonofilm.pipeline.decode import decode_video
from phonofilm.runtime.backends import Backend
from phonofilm.runtime.component_offload import ComponentOffload
from phonofilm.runtime.layer_streaming import LayerStreamer
from phonofilm.runtime.module_streamer import ModuleStreamer
from tests.gpu.small_models import apart, experts, resident, same, step, tensors
from tests.nano_fixture import tiny_audio_vae, tiny_nano_pipeline, tiny_video_vae

HOST = torch.device("cpu")
IDS = torch.tensor([[5, 17, 290, 3, 1], [8, 8, 1, 0, 0]])


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(1, 16, 3, 6, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("tiled", [False, True])
def test_the_picture_decodes_as_on_the_host(device: torch.device, latents: Tensor, tiled: bool) -> None:
    torch.manual_seed(0)
    vae = tiny_video_vae().eval()
    if tiled:
        vae.enable_tiling(32, 32, 24, 24)
    expected = decode_video(vae, latents)
    ours = decode_video(vae.to(device), latents.to(device))
    assert ours.device == HOST
    assert apart([ours], [expected]) < 1e-4
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    assert apart([decode_video(vae, latents.to(device))], [expected]) < 1e-4


@torch.no_grad()
def test_the_sound_decodes_as_on_the_host(device: torch.device) -> None:
    torch.manual_seed(0)
    vae = tiny_audio_vae().eval()
    latents = torch.randn(1, 16, 11)
    expected = vae.decode(latents)
    assert apart([vae.to(device).decode(latents.to(device)).cpu()], [expected]) < 1e-4


@torch.no_grad()
def test_an_offloaded_component_comes_for_its_work_and_leaves(device: torch.device, latents: Tensor) -> None:
    torch.manual_seed(0)
    vae = tiny_video_vae().eval()
    expected = decode_video(vae, latents)
    offload = ComponentOffload(vae, device)
    for _ in range(2):
        vae._hf_hook.pre_forward(vae)  # as the pipeline's decoding asks for it
        assert {parameter.device.type for parameter in vae.parameters()} == {device.type}
        assert apart([decode_video(vae, latents.to(device))], [expected]) < 1e-4
        offload.offload()
        assert {parameter.device.type for parameter in vae.parameters()} == {"cpu"}
    offload.remove()
    assert not hasattr(vae, "_hf_hook")


@torch.no_grad()
def test_the_text_encoder_streams_to_the_last_bit(device: torch.device, backend: Backend) -> None:
    torch.manual_seed(0)
    encoder = UMT5EncoderModel(UMT5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4))
    encoder.eval().requires_grad_(False)
    mask = (IDS != 0).long()

    def says() -> Tensor:
        answer: Tensor = encoder(IDS.to(device), mask.to(device)).last_hidden_state
        return answer

    encoder.to(device)
    expected = says()
    encoder.to("cpu")
    streamer = ModuleStreamer(encoder.encoder, encoder.encoder.block, encoder.encoder.embed_tokens, backend)
    for _ in range(2):
        assert torch.equal(says(), expected)
        assert {parameter.device.type for parameter in encoder.parameters()} == {"cpu"}
    streamer.close()


def test_a_whole_clip_is_the_hosts(device: torch.device) -> None:
    clips = []
    for where in (HOST, device):
        pipe = tiny_nano_pipeline(size=32, num_frames=5).to(where)
        out = pipe("a ball", generator=torch.Generator().manual_seed(1), output_type="pt")
        clips.append([out.frames, out.audio])
    assert apart(clips[1], clips[0]) < 1e-3


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)
def test_compiled_layers_answer_what_eager_ones_answer_streamed_too(device: torch.device, backend: Backend) -> None:
    require_compiler(device)
    (high, _) = experts()
    expected = resident(high, device)
    compile_layers([high.video, high.audio, high.bridge])
    compiled = resident(high, device)
    assert apart(compiled, expected) < 1e-5
    streamer = LayerStreamer([high], backend, slots=2)
    inputs, conditionings = step(device)
    assert same(tensors(streamer.forward_many(inputs, conditionings)), compiled)
    streamer.close()
