"""The planner chooses what fits, says what it needs, refuses with what would fit; the command prints it without weights."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.unit.checkpoints import GOLDEN
from transformers import UMT5Config, UMT5EncoderModel
from typer.testing import CliRunner

from benchmarks.released import CLIP_360P, TEXT_TOKENS, forward_inputs, released_denoiser
from phonofilm.cli.main import app
from phonofilm.errors import InputError
from phonofilm.generation.machine_fit import Machine, needs_of, verdict
from phonofilm.generation.placement.cards import card_like, known_peak
from phonofilm.models.joint import JointDenoiser
from phonofilm.runtime import released
from phonofilm.runtime.counters import count
from phonofilm.runtime.flops import forward_flops
from phonofilm.runtime.footprint import Footprint, TextBlocks, decoding_bytes, reserved_for
from phonofilm.runtime.memory_plan import Budget, ClipCost, MemoryPlan, Offload, StreamingOptions, choose_offload
from phonofilm.runtime.parallel_footprint import per_device

GIB = 2**30
DECODERS = released.VIDEO_VAE_PARAMETERS * 2 + released.AUDIO_VAE_PARAMETERS * 4


@pytest.fixture(scope="module")
def denoiser() -> JointDenoiser:
    return released_denoiser()


@pytest.fixture(scope="module")
def model(denoiser: JointDenoiser) -> Footprint:
    blocks = TextBlocks(
        released.TEXT_BLOCK_PARAMETERS * 2, released.TEXT_TENSOR_PARAMETERS * 2, released.TEXT_WIDTH * 2
    )
    return Footprint.of(denoiser, 2, released.TEXT_ENCODER_PARAMETERS * 2, DECODERS, 2, blocks)


@pytest.fixture(scope="module")
def clip(denoiser: JointDenoiser) -> ClipCost:
    """8 seconds at 360p."""
    flops = forward_flops(denoiser, CLIP_360P.video_tokens, CLIP_360P.audio_latents, TEXT_TOKENS).total
    return ClipCost(CLIP_360P.video_tokens, flops)


def test_the_footprint_adds_up_to_the_released_parameters(model: Footprint) -> None:
    denoiser = 2 * 14_288_901_184 + 1_419_193_472 + 2_659_737_600
    assert model.total == 2 * (denoiser + 5_680_910_336) + DECODERS
    assert model.active == 2 * 18_367_832_256


def test_the_working_memory_is_what_the_counter_counts(denoiser: JointDenoiser, model: Footprint) -> None:
    inputs = forward_inputs(CLIP_360P)
    counted = count(inputs.forward(denoiser), inputs=inputs.on_device, weights=denoiser.parameters()).peak_live_bytes
    assert model.working(CLIP_360P.video_tokens, 1) == pytest.approx(counted, rel=0.01)


def test_the_text_encoders_blocks_add_up_and_its_working_memory_is_counted(model: Footprint) -> None:
    config = UMT5Config(
        d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=2, vocab_size=256384, feed_forward_proj="gated-gelu"
    )
    with torch.device("meta"):
        encoder = UMT5EncoderModel(config).eval().to(torch.bfloat16)
        rows = torch.empty(1, TEXT_TOKENS, config.d_model, dtype=torch.bfloat16)
    assert sum(p.nbytes for p in encoder.encoder.block[0].parameters()) == model.text_blocks.block
    assert max(p.nbytes for p in encoder.encoder.block[0].parameters()) == model.text_blocks.tensor
    outside = 256384 * 4096 + 4096  # the embedding, and the last norm
    assert 24 * model.text_blocks.block + 2 * outside == model.text_encoder
    counted = count(lambda: encoder(inputs_embeds=rows), inputs=[rows], weights=encoder.parameters()).peak_live_bytes
    assert model.text_blocks.device - 2 * model.text_blocks.block == pytest.approx(counted, rel=0.01)


def test_a_very_short_clip_needs_room_for_the_text_encoders_blocks(model: Footprint, clip: ClipCost) -> None:
    tiny = replace(clip, video_tokens=100)
    need = choose_offload(Budget(8 * GIB), model, tiny, "layer", StreamingOptions(resident=0)).device_bytes
    without = replace(model, text_blocks=TextBlocks())
    less = choose_offload(Budget(8 * GIB), without, tiny, "layer", StreamingOptions(resident=0)).device_bytes
    assert need - less == model.text_blocks.device - reserved_for(model.working(100, 2))


@pytest.mark.parametrize(
    ("card", "offload"), [(8, "layer"), (12, "layer"), (24, "layer"), (48, "model"), (80, "none"), (141, "none")]
)
def test_the_choice_for_an_8_second_clip_by_card(model: Footprint, clip: ClipCost, card: int, offload: str) -> None:
    plan = choose_offload(Budget(card * GIB), model, clip)
    assert plan.offload == offload
    assert plan.device_bytes <= card * GIB


def test_more_device_memory_keeps_more_layers_and_asks_less_of_the_host(model: Footprint, clip: ClipCost) -> None:
    plans = [choose_offload(Budget(gib * GIB), model, clip, "layer") for gib in (8, 12, 24, 48)]
    assert [plan.resident for plan in plans] == sorted({plan.resident for plan in plans})
    assert [plan.host_bytes for plan in plans] == sorted((plan.host_bytes for plan in plans), reverse=True)
    assert plans[0].host_bytes <= 78e9


def test_streaming_costs_no_time_at_8_seconds_and_is_bound_by_the_link_at_17_frames(
    model: Footprint, clip: ClipCost
) -> None:
    card = Budget(8 * GIB, flops=800e12)
    resident = clip.evaluations * clip.flops / 800e12
    assert _seconds(choose_offload(card, model, clip)) <= 1.01 * resident
    short = replace(clip, video_tokens=4400, flops=clip.flops // 20)
    slow = _seconds(choose_offload(card, model, short, "layer"))
    assert slow > 1.5 * resident / 20
    assert _seconds(choose_offload(replace(card, link=250e9), model, short, "layer")) < slow


def test_texts_are_kept_where_they_fit_and_relieve_the_link(model: Footprint, clip: ClipCost) -> None:
    small, large = (
        choose_offload(Budget(gib * GIB), model, clip, "layer", StreamingOptions(resident=0)) for gib in (8, 12)
    )
    assert not small.keeps_text
    assert large.keeps_text
    assert large.device_bytes - small.device_bytes == clip.evaluations * model.kept_text
    short = replace(clip, flops=clip.flops // 100)  # bound by the link
    without, kept = (
        _seconds(choose_offload(Budget(gib * GIB, flops=800e12), model, short, "layer", StreamingOptions(resident=0)))
        for gib in (8, 12)
    )
    assert kept / without == pytest.approx(1 - sum(model.text_layers) / sum(model.layers), rel=0.01)


def test_without_a_known_speed_no_time_is_given(model: Footprint, clip: ClipCost) -> None:
    budget = Budget(8 * GIB)
    assert choose_offload(budget, model, clip).seconds_per_step is None
    assert "seconds per step unknown" in choose_offload(budget, model, clip).line(budget)


def test_the_line_says_what_was_chosen_and_what_it_takes(model: Footprint, clip: ClipCost) -> None:
    budget = Budget(12 * GIB, flops=800e12)
    assert choose_offload(budget, model, clip).line(budget) == (
        "12.9 GB free: streaming 38 layers through 2 slots, 2 resident, the prompts' keys and values kept, the text encoder "
        "block by block, at least 6.92 s/step x 50 (estimate: FLOPs at peak), peak 12.6 GB device memory, 74.5 GB host memory"
    )


@pytest.mark.parametrize(
    ("budget", "offload", "complaint"),
    [
        (Budget(8 * GIB), "none", r"offload none needs 8\d\.\d GB of device memory .* What fits: offload layer"),
        (Budget(50 * 10**9), "none", "What fits: offload model or layer"),
        (Budget(8 * GIB, host=64 * 10**9), None, r"What would fit: 77\.6 GB of free host memory, with offload layer"),
        (Budget(2 * GIB), None, r"What would fit: 8\.44 GB of free device memory, with offload layer"),
        (Budget(6 * GIB), None, r"a clip of at most \d+ video tokens \(this one has 43120\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    model: Footprint, clip: ClipCost, budget: Budget, offload: Offload | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        choose_offload(budget, model, clip, offload)


def test_the_clip_a_refusal_names_fits(model: Footprint, clip: ClipCost) -> None:
    with pytest.raises(InputError) as refusal:
        choose_offload(Budget(6 * GIB), model, clip)
    tokens = int(str(refusal.value).split("at most ")[1].split()[0])
    assert choose_offload(Budget(6 * GIB), model, replace(clip, video_tokens=tokens)).offload == "layer"
    with pytest.raises(InputError):
        choose_offload(Budget(6 * GIB), model, replace(clip, video_tokens=tokens + 1))


CARDS = {8: "8 GB", 12: "12 GB", 16: "16 GB", 24: "24 GB", 48: "48 GB", 80: "80 GB"}
SIZES = {(352, 640): CLIP_360P.video_tokens, (720, 1280): 176_400}


def _work(size: tuple[int, int]) -> ClipCost:
    whole, tiled = (
        released.VIDEO_VAE_PARAMETERS * 2 + decoding_bytes(size[0] * size[1], 193, 2, tiled=tiles)
        for tiles in (False, True)
    )
    return ClipCost(SIZES[size], 1, decoding=whole, decoding_tiled=tiled)


def _in_words(card: int, model: Footprint, work: ClipCost) -> str:
    try:
        plan = choose_offload(Budget(card * GIB), model, work)
    except InputError:
        roomy = choose_offload(Budget(80 * GIB), model, work, "layer", StreamingOptions(resident=0))
        least = roomy.device_bytes - work.evaluations * model.kept_text
        return f"needs {least / 1e9:.3g} GB"
    kept = f", {plan.resident} resident" if plan.offload == "layer" and plan.resident else ""
    host = f" / {plan.host_bytes / 1e9:.3g}" if plan.host_bytes else ""
    return f"{plan.offload}{kept}: {plan.device_bytes / 1e9:.3g}{host} GB"


def test_the_table_from_8_gb_to_8_gpus_is_what_the_planner_says(model: Footprint) -> None:
    page = (Path(__file__).parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")
    works = [_work(size) for size in SIZES]
    for card, told in CARDS.items():
        assert f"| {told} | {' | '.join(_in_words(card, model, work) for work in works)} |" in page
    for devices in (2, 4, 8):
        each = [per_device(model, work, devices) for work in works]
        cells = (f"{one.whole / 1e9:.3g} GB on each; {one.in_parts / 1e9:.3g} GB in parts" for one in each)
        assert f"| {devices} GPUs | {' | '.join(cells)} |" in page


def test_more_devices_need_less_memory_each_and_weights_in_parts_least(model: Footprint, clip: ClipCost) -> None:
    each = [per_device(model, clip, devices) for devices in (2, 4, 8)]
    assert all(one.in_parts < one.whole for one in each)
    assert [one.in_parts for one in each] == sorted((one.in_parts for one in each), reverse=True)
    layers = model.total - model.around - model.text_encoder - model.decoders
    per_layer = 2 * max(model.layers)
    assert each[0].whole - each[0].in_parts == pytest.approx(layers / 2 - per_layer, abs=1)


def _seconds(plan: MemoryPlan) -> float:
    assert plan.seconds_per_step is not None
    return plan.seconds_per_step


def run(*arguments: str) -> str:
    """What the command printed, as one line: the table's frame and line breaks taken out."""
    done = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "400"})
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_the_command_plans_named_cards_at_both_sizes() -> None:
    told = run("--tflops", "800")
    for card in (8, 12, 16, 24, 48, 80):
        assert told.count(f"│ {card} GB card") == 2
    assert "│ 8 GPUs │ sharing each clip (--gpus 8): at most 83 GB on each, or 28.7 GB with --shard-weights" in told
    assert "360p: 640x352, 193 frames (8.04 s at 24 fps), 43120 video tokens" in told
    assert "720p: 1280x720, 193 frames (8.04 s at 24 fps), 176400 video tokens" in told
    assert re.search(r"nano: yes, .* a clip.*\. 360p: .*\. 720p: .*\.$", told)


def test_a_card_that_is_not_known_is_taken_for_a_like_one() -> None:
    told = run("--model", "360p", "--vram-limit", "12GiB", "--ram-limit", "100GB")
    assert "its speed is not known, taken for an RTX 3060's, 25 TFLOP/s" in told
    assert "s/step x 50" in told
    assert card_like(24 * GIB).name == "RTX 3090"
    assert card_like(GIB).name == "RTX 4060"


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        (Budget(6 * 10**9, 10**11, 1e14), r"360p: no, 2\.\d+ GB short; an? \d+ GB card would do"),
        (Budget(24 * GIB, 10**11, 1e14), "360p: yes, layer by layer, at least "),
        (Budget(80 * GIB, 10**11, 1e14), "360p: yes, all of it on the card, at least "),
        (Budget(24 * GIB, 10**9, 1e14), r"360p: no, 6\d\.\d GB of host memory short"),
        (None, r"360p: no, there is no GPU; an? \d+ GB card with 7\d\.\d GB of host memory or an 80 GB card would do"),
    ],
)
def test_the_verdict_says_what_is_short_and_which_card_would_do(budget: Budget | None, line: str) -> None:
    host = 10**9 if budget is None else budget.host or 0
    assert re.match(line, verdict(needs_of("360p"), Machine("", budget, host)))


def test_a_folder_is_planned_as_itself() -> None:
    told = run("--model", str(GOLDEN), "--vram-limit", "1GB", "--ram-limit", "1GB", "--size", "48x32", "--seconds", "1")
    assert "checkpoint: 48x32, 25 frames (1.04 s at 24 fps)" in told
    assert "everything stays on the device" in told


def test_a_long_film_needs_what_its_largest_part_needs() -> None:
    film = needs_of("360p", seconds=24.0)
    assert "205 frames (8.54 s at 24 fps), one of 3 parts" in film.title


def test_the_commands_options_change_what_it_says() -> None:
    small = ("--model", "360p", "--size", "640x352", "--seconds", "8", "--vram-limit", "9", "--ram-limit", "100")
    told = run(*small)
    assert "9 GB free: streaming 40 layers through 2 slots" in told
    assert "GB card" not in told
    assert "GPUs" not in told
    assert "at least 6.92 s/step x 20" in run(*small, "--tflops", "800", "--steps", "20")
    assert "at least 36.2 s/step" in run(*small, "--tflops", "800", "--link", "1")
    refused = run(*small[:-1], "50", "--offload", "model")
    assert "does not fit: offload model needs" in refused
    assert "there are 9 GB and 50 GB of host memory" in refused


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--offload", "disk"), "offload 'disk' is unknown; use auto, none, model, layer"),
        (("--tflops", "0"), "--tflops is 0; expected a number above 0"),
        (("--seconds", "-1"), "--seconds is -1"),
        (("--size", "large"), "size 'large' is not WIDTHxHEIGHT"),
    ],
)
def test_words_that_cannot_be_followed_are_refused(arguments: tuple[str, ...], complaint: str) -> None:
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == 2
    assert complaint in done.output


@pytest.mark.parametrize(
    ("name", "peak"), [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("Quadro P400", None)]
)
def test_a_devices_peak_is_known_by_its_name_or_not_at_all(name: str, peak: float | None) -> None:
    assert known_peak(name) == peak


def test_its_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom phonofilm.cli.main import app\napp(['plan', '--help'], standalone_mode=False)\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
