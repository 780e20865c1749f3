"""The networks agree with the original code's numbers, component by component, to 1e-5 relative in float32."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import Golden, relative_error

from phonofilm.models.audio import WanAudioModel
from phonofilm.models.bridge import BridgeScale, DualTowerConditionalBridge
from phonofilm.models.joint import JointDenoiser, fold_text_padding
from phonofilm.models.video import WanModel

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def joint(golden: Golden) -> JointDenoiser:
    video = WanModel.from_pretrained(golden.checkpoint / "video_dit")
    audio = WanAudioModel.from_pretrained(golden.checkpoint / "audio_dit")
    bridge = DualTowerConditionalBridge.from_pretrained(golden.checkpoint / "dual_tower_bridge")
    return JointDenoiser(video, audio, bridge).eval().requires_grad_(False)


def run_joint(joint: JointDenoiser, golden: Golden, text: str = "video_dit/context", **options: object):
    return joint(
        golden["video_dit/x"],
        golden["audio_dit/x"],
        golden["video_dit/t"],
        golden["audio_dit/t"],
        golden[text],
        golden.meta["frame_rate"],
        **options,
    )


def test_video_tower_alone(joint: JointDenoiser, golden: Golden) -> None:
    tokens, _ = joint.video.embed(golden["video_dit/x"])
    assert relative_error(tokens, golden["video_dit/tokens"]) <= TOLERANCE
    out = joint.video(golden["video_dit/x"], golden["video_dit/t"], golden["video_dit/context"])
    assert relative_error(out, golden["video_dit/out"]) <= TOLERANCE


def test_audio_tokens(joint: JointDenoiser, golden: Golden) -> None:
    assert relative_error(joint.audio.embed(golden["audio_dit/x"]), golden["audio_dit/tokens"]) <= TOLERANCE


def test_bridge_clock(joint: JointDenoiser, golden: Golden) -> None:
    clock = joint.bridge.clock(joint.video.embed(golden["video_dit/x"])[1], golden["bridge/ha"].shape[1], 24.0)
    assert clock is not None
    for name, ours in (
        ("cos_v", clock.video_cos),
        ("sin_v", clock.video_sin),
        ("cos_a", clock.audio_cos),
        ("sin_a", clock.audio_sin),
    ):
        assert relative_error(ours[None], golden[f"bridge/{name}"]) <= TOLERANCE


def test_bridge_layers(joint: JointDenoiser, golden: Golden) -> None:
    assert list(joint.bridge.interaction_layers) == golden.meta["interaction_layers"]
    grid = joint.video.embed(golden["video_dit/x"])[1]
    video, audio = golden["bridge/hv"], golden["bridge/ha"]
    clock = joint.bridge.clock(grid, audio.shape[1], golden.meta["frame_rate"])
    for layer in joint.bridge.interaction_layers:
        out_v, out_a = joint.bridge(layer, video, audio, clock, grid, BridgeScale())
        assert relative_error(out_v, golden[f"bridge/ov_{layer}"]) <= TOLERANCE
        assert relative_error(out_a, golden[f"bridge/oa_{layer}"]) <= TOLERANCE


@pytest.mark.parametrize(
    ("suffix", "text", "scale"),
    [
        ("", "video_dit/context", 1.0),
        ("_negative", "joint/negative_context", 1.0),
        ("_negative_bridge_off", "joint/negative_context", 0.0),
    ],
)
def test_joint_forward(joint: JointDenoiser, golden: Golden, suffix: str, text: str, scale: float) -> None:
    out = run_joint(joint, golden, text, bridge_scale=scale)
    assert relative_error(out.video, golden[f"joint/video_out{suffix}"]) <= TOLERANCE
    assert relative_error(out.audio, golden[f"joint/audio_out{suffix}"]) <= TOLERANCE


def test_folded_padding_changes_nothing(joint: JointDenoiser, golden: Golden) -> None:
    text = golden["video_dit/context"]
    lengths = torch.tensor([9])
    padded = text.clone()
    padded[:, 9:] = 0
    inputs = (golden["video_dit/x"], golden["audio_dit/x"], golden["video_dit/t"], golden["audio_dit/t"])
    whole = joint(*inputs, padded, 24.0)
    short, bias = fold_text_padding(padded, lengths, padded.shape[1])
    assert short.shape[1] == 10
    folded = joint(*inputs, short, 24.0, text_bias=bias)
    assert relative_error(folded.video, whole.video) <= TOLERANCE
    assert relative_error(folded.audio, whole.audio) <= TOLERANCE
