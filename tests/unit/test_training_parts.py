"""The pieces under the loop: optimizers, averages, latents and their order, text folding, the start from nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.training_helpers import AUDIO, VIDEO, tiny_denoiser, tiny_model, write_latents
from torch import nn

from phonofilm.errors import InputError
from phonofilm.training.config.training_config import OptimizerConfig
from phonofilm.training.loop.ema import WeightAverage, swapped_weights
from phonofilm.training.loop.muon import BatchedMuon, orthogonalise
from phonofilm.training.loop.optimizers import build_optimizers, is_block_matrix, joint_part_of, set_rate
from phonofilm.training.loop.precision import bfloat16_products, resolve_precision
from phonofilm.training.task.joint_task import JointInputs, clone_expert, hidden_prompts
from phonofilm.training.task.latent_dataset import LatentDataset, LatentMeta, LatentWriter, ShuffledOrder, TokenPrompts

CPU = torch.device("cpu")


def test_batched_muon_takes_the_steps_of_torch_muon() -> None:
    def train(optimizer_class: Callable[..., torch.optim.Optimizer]) -> list[torch.Tensor]:
        g = torch.Generator().manual_seed(0)
        shapes = [(16, 16), (8, 24), (24, 8), (16, 16)]
        parameters = [nn.Parameter(torch.randn(shape, generator=g)) for shape in shapes]
        optimizer = optimizer_class(parameters, lr=0.02, weight_decay=0.1, momentum=0.9)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=g)
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    for ours, theirs in zip(train(BatchedMuon), train(torch.optim.Muon), strict=True):
        assert (ours - theirs).norm() / theirs.norm() < 2e-3  # both may orthogonalise in bfloat16


def test_muon_gets_the_matrices_inside_blocks_and_nothing_else() -> None:
    chosen = {name for name, p in tiny_model().named_parameters() if is_block_matrix(name, p)}
    assert "high.video.blocks.0.self_attn.q.weight" in chosen
    assert "high.audio.blocks.1.ffn.2.weight" in chosen
    assert "high.bridge.audio_to_video_conditioners.0.inner.k.weight" in chosen
    assert any(name.startswith("text.encoder.block.0") and name.endswith("SelfAttention.q.weight") for name in chosen)
    refused = ("embedding", "norm", "modulation", "head", "bias", "shared", "embed_tokens", "time_projection")
    assert not [name for name in chosen if any(word in name for word in refused)]


def test_every_parameter_is_in_one_group_with_its_components_rate_and_only_matrices_decay() -> None:
    model = tiny_model(two_experts=True)
    named = dict(model.named_parameters())
    scale = {name: 2.0 for name in named if joint_part_of(name) == "bridge"}
    config = OptimizerConfig(name="muon", lr=1e-3, muon_lr=0.01, weight_decay=0.1)
    optimizers = build_optimizers(named.items(), config, scale)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert sum(len(group["params"]) for group in groups) == len(named)
    by_id = {id(p): group for group in groups for p in group["params"]}
    assert by_id[id(named["high.bridge.audio_to_video_conditioners.0.inner.q.weight"])]["lr"] == 0.02
    assert by_id[id(named["low.video.blocks.0.self_attn.q.weight"])]["lr"] == 0.01
    assert by_id[id(named["high.video.blocks.0.modulation"])]["weight_decay"] == 0
    assert by_id[id(named["high.video.patch_embedding.weight"])]["weight_decay"] == 0.1
    set_rate(optimizers, 0.5)
    assert by_id[id(named["high.bridge.audio_to_video_conditioners.0.inner.q.weight"])]["lr"] == 0.01
    with pytest.raises(InputError, match="nothing to train"):
        build_optimizers([], config)


def test_the_average_follows_the_weights_and_lent_weights_come_back() -> None:
    weights = {"w": nn.Parameter(torch.zeros(3))}
    average = WeightAverage(weights, decay=0.5)
    with torch.no_grad():
        weights["w"].fill_(8.0)
    average.update(step=100)
    assert average.state_dict()["w"].tolist() == [4.0] * 3
    average.update(step=101)
    assert average.state_dict()["w"].tolist() == [6.0] * 3
    with swapped_weights(weights, average.state_dict()), torch.no_grad():
        assert weights["w"].tolist() == [6.0] * 3
        weights["w"].fill_(-1)
    assert weights["w"].tolist() == [8.0] * 3


def test_every_clip_is_drawn_once_per_epoch_in_an_order_that_depends_on_seed_and_position_only() -> None:
    order = ShuffledOrder(10, seed=3)
    first, second = order.rows(0, 10), order.rows(10, 10)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()
    assert torch.equal(ShuffledOrder(10, seed=3).rows(7, 9), torch.cat([first, second])[7:16])
    assert ShuffledOrder(10, seed=4).rows(0, 10).tolist() != first.tolist()


def test_latents_come_back_as_written_within_half_precision(tmp_path: Path) -> None:
    dataset = write_latents(tmp_path, count=6, silent=(2,))
    rows = torch.tensor([2, 0])
    sample, prompts = dataset.sample(rows, CPU), dataset.prompts(rows, CPU)
    written = torch.randn(6, *VIDEO, generator=torch.Generator().manual_seed(7))
    assert len(dataset) == 6
    assert torch.allclose(sample.video, written[rows], atol=2e-3)
    assert sample.audio.shape == (2, *AUDIO)
    assert sample.video.dtype == torch.float32
    assert sample.has_audio.tolist() == [False, True]
    assert prompts.lengths.tolist() == [6, 4]
    assert prompts.tokens.shape == (2, 6)


def test_a_broken_latent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no meta\.json"):
        LatentDataset(tmp_path)
    write_latents(tmp_path, count=6)
    np.save(tmp_path / "lengths.npy", np.ones(5, dtype=np.int32))
    with pytest.raises(InputError, match="5 rows"):
        LatentDataset(tmp_path)
    write_latents(tmp_path, count=6)
    np.save(tmp_path / "white.npy", np.ones((4, 1, 4, 4), dtype=np.float32))
    with pytest.raises(InputError, match=r"white\.npy"):
        LatentDataset(tmp_path)
    (tmp_path / "audio.npy").unlink()
    with pytest.raises(InputError, match=r"no audio\.npy"):
        LatentDataset(tmp_path)


def test_a_prompt_too_long_for_the_folder_is_refused(tmp_path: Path) -> None:
    writer = LatentWriter(tmp_path, 1, VIDEO, AUDIO, 4, LatentMeta(24.0))
    zeros = torch.zeros(1, *VIDEO)
    with pytest.raises(InputError, match="5 tokens"):
        writer.put(0, zeros, zeros, torch.zeros(1, *AUDIO), [[1] * 5], torch.tensor([True]))


def test_the_text_encoder_never_drops_parts_of_a_prompt() -> None:
    model = tiny_model()
    prompts = TokenPrompts(torch.tensor([[5, 9, 1]]), torch.tensor([3]))
    assert torch.equal(model.encode(prompts)[0], model.train().encode(prompts)[0])
    assert model.high.training
    assert model.encode(prompts)[0].requires_grad


def test_dropped_captions_become_the_empty_prompt(tmp_path: Path) -> None:
    dataset = write_latents(tmp_path)
    rows = torch.tensor([3, 0, 1])
    hidden = hidden_prompts(dataset, rows, torch.tensor([False, True, False]), CPU)
    assert hidden.lengths.tolist() == [1, 4, 1]
    assert hidden.tokens.shape == (3, 4)
    assert hidden.tokens[0].tolist() == [1, 0, 0, 0]
    assert torch.equal(hidden.tokens[1], dataset.prompts(rows[1:2], CPU).tokens[0])


def test_folded_text_padding_predicts_what_all_padded_positions_would(tmp_path: Path) -> None:
    model = tiny_model()
    nn.init.normal_(model.high.video.head.head.weight)
    nn.init.normal_(model.high.audio.head.head.weight)
    dataset = write_latents(tmp_path)
    rows = torch.tensor([0, 1, 3])
    prompts = dataset.prompts(rows, CPU)
    model.eval()
    sigma = torch.tensor([0.2, 0.6, 1.0])
    video = torch.randn(3, 12, *VIDEO[1:], generator=torch.Generator().manual_seed(0))
    audio = torch.randn(3, *AUDIO, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        folded = model(JointInputs(video, audio, sigma, sigma, torch.ones(3), prompts, 24.0), "both")
        padded = nn.functional.pad(prompts.tokens, (0, 512 - prompts.tokens.shape[1]))
        mask = (torch.arange(512) < prompts.lengths[:, None]).float()
        text = model.text(input_ids=padded, attention_mask=mask).last_hidden_state * mask[..., None]
        whole = model.high(video, audio, 1000 * sigma, 1000 * sigma, text, 24.0)
    assert torch.allclose(folded.video, whole.video, atol=2e-5)
    assert torch.allclose(folded.audio, whole.audio, atol=2e-5)


def test_a_per_sample_bridge_scale_of_zero_equals_no_bridge(tmp_path: Path) -> None:
    model = tiny_model()
    nn.init.normal_(model.high.audio.head.head.weight)
    prompts = TokenPrompts(torch.ones(2, 1, dtype=torch.long), torch.ones(2, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    video, audio = torch.randn(2, 12, *VIDEO[1:], generator=generator), torch.randn(2, *AUDIO, generator=generator)
    sigma = torch.tensor([0.5, 0.5])

    def audio_of(scale: list[float]) -> torch.Tensor:
        with torch.no_grad():
            inputs = JointInputs(video, audio, sigma, sigma, torch.tensor(scale), prompts, 24.0)
            return model(inputs, "both").audio

    on, off, mixed = audio_of([1, 1]), audio_of([0, 0]), audio_of([1, 0])
    assert not torch.allclose(on, off, atol=1e-4)
    assert torch.allclose(mixed[0], on[0], atol=1e-6)
    assert torch.allclose(mixed[1], off[1], atol=1e-6)


def test_from_scratch_the_first_prediction_is_zero_and_blocks_stay_near_the_identity() -> None:
    denoiser = tiny_denoiser()
    text = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(2))
    output = denoiser(torch.randn(1, 12, *VIDEO[1:]), torch.randn(1, *AUDIO), torch.ones(1), torch.ones(1), text, 24.0)
    assert not output.video.any()
    assert not output.audio.any()
    tokens, grid = denoiser.video.embed(torch.randn(1, 12, *VIDEO[1:]))
    told = denoiser.video.condition(torch.full((1,), 500.0), text)
    after = tokens
    for block in denoiser.video.blocks:
        after = block(after, told.modulation, denoiser.video.rope(grid), told.text, None)
    before = float(tokens.detach().std())
    assert 0.5 < before < 2.0
    assert 0.7 < float(after.detach().std()) / before < 2.0
    assert not torch.allclose(after, tokens)


def test_a_cloned_expert_starts_equal_shares_sound_and_bridge_and_then_goes_its_own_way() -> None:
    high = tiny_denoiser()
    low = clone_expert(high)
    assert low.audio is high.audio
    assert low.bridge is high.bridge
    weight = "blocks.0.ffn.0.weight"
    assert torch.equal(low.video.get_parameter(weight), high.video.get_parameter(weight))
    with torch.no_grad():
        low.video.get_parameter(weight).zero_()
    assert high.video.get_parameter(weight).any()


def test_bfloat16_products_round_the_block_matrices_and_leave_no_trace(tmp_path: Path) -> None:
    model = tiny_model()
    nn.init.normal_(model.high.video.head.head.weight)
    nn.init.normal_(model.high.audio.head.head.weight)
    prompts = TokenPrompts(torch.ones(2, 1, dtype=torch.long), torch.ones(2, dtype=torch.long))
    g = torch.Generator().manual_seed(0)
    video, audio = torch.randn(2, 12, *VIDEO[1:], generator=g), torch.randn(2, *AUDIO, generator=g)
    inputs = JointInputs(video, audio, torch.ones(2) / 2, torch.ones(2) / 3, torch.ones(2), prompts, 24.0)

    def gradients() -> tuple[torch.Tensor, list[torch.Tensor]]:
        output = model(inputs, "both")
        names = ("blocks.0.self_attn.q.weight", "blocks.1.ffn.2.bias", "patch_embedding.weight")
        wanted = [model.high.video.get_parameter(name) for name in names]
        loss = output.video.square().mean() + output.audio.square().mean()
        return output.video.detach(), list(torch.autograd.grad(loss, wanted))

    exact, exact_gradients = gradients()
    with bfloat16_products(model):
        rounded, rounded_gradients = gradients()
    assert rounded.dtype == torch.float32
    assert 1e-5 < float((rounded - exact).norm() / exact.norm()) < 2e-2
    for ours, theirs in zip(rounded_gradients, exact_gradients, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < 5e-2
    assert torch.equal(gradients()[0], exact)
    assert "forward" not in vars(model.high.video.blocks[0].ffn[0])


@pytest.mark.parametrize(
    ("device", "fast", "expected"), [("cpu", True, "bf16-products"), ("cpu", False, "no"), ("cuda", False, "bf16")]
)
def test_auto_precision_never_picks_bfloat16_on_a_cpu_without_it(
    monkeypatch: pytest.MonkeyPatch, device: str, fast: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert resolve_precision("auto", torch.device(device)) == expected
    assert resolve_precision("bf16-products", torch.device(device)) == "bf16-products"


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    for shape in ((6, 40), (40, 6)):
        update = orthogonalise(torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)))[0]
        assert update.shape == shape
        values = torch.linalg.svdvals(update)
        assert values.min() > 0.5
        assert values.max() < 1.3
    assert not orthogonalise(torch.zeros(1, 3, 5)).any()


def test_muon_descends() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    optimizer = BatchedMuon([weight], lr=0.05, weight_decay=0.0)
    before = (weight.detach() - 1).square().sum()
    for _ in range(100):
        optimizer.zero_grad()
        (weight - 1).square().sum().backward()
        optimizer.step()
    assert (weight - 1).square().sum() < 0.1 * before


def test_muon_takes_a_convolution_as_a_matrix_of_its_taps() -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradient = torch.randn(6, 3, 2, 2, generator=generator), torch.randn(6, 3, 2, 2, generator=generator)
    weights = [torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.flatten(1).clone())]
    for weight in weights:
        weight.grad = gradient.view(weight.shape)
        BatchedMuon([weight], lr=0.1).step()
    assert torch.equal(weights[0].flatten(1), weights[1])
    assert not torch.equal(weights[0], start)
