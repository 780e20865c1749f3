"""The audio VAE against the original's numbers, and the ways its checkpoints can be stored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import Golden, relative_error, writable_copy
from torch.nn.utils import parametrizations, weight_norm

from phonofilm.errors import CheckpointError, InputError
from phonofilm.models.audio_vae import DAC, AudioPosterior, fuse_weight_norm

RELEASED = {
    "encoder_dim": 128,
    "encoder_rates": [2, 3, 4, 5, 8],
    "decoder_dim": 2048,
    "decoder_rates": [8, 5, 4, 3, 2],
    "latent_dim": 128,
    "sample_rate": 48000,
    "continuous": True,
}


def load_vae(golden: Golden) -> DAC:
    return DAC.from_pretrained(golden.checkpoint / "audio_vae").eval()


@torch.no_grad()
def test_encode_and_decode_agree_with_the_original(golden: Golden) -> None:
    vae = load_vae(golden)
    posterior = vae.encode(golden["audio_vae/wave"])
    assert relative_error(posterior.mean, golden["audio_vae/mean"]) < 1e-5
    assert relative_error(posterior.logvar, golden["audio_vae/logvar"]) < 1e-5
    assert relative_error(vae.decode(golden["audio_vae/mean"]), golden["audio_vae/decoded"]) < 1e-5
    assert relative_error(vae.decode(posterior.mode()), golden["audio_vae/decoded"]) < 1e-5


def test_state_dict_has_the_checkpoints_keys_and_shapes(golden: Golden) -> None:
    stored = load_file(golden.checkpoint / "audio_vae" / "diffusion_pytorch_model.safetensors")
    config = json.loads((golden.checkpoint / "audio_vae" / "config.json").read_text())
    ours = DAC.from_config(config).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in stored.items()}


def test_saved_folder_has_the_originals_config_and_weights(basic: Golden, tmp_path: Path) -> None:
    load_vae(basic).save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "config.json").read_text())
    theirs = json.loads((basic.checkpoint / "audio_vae" / "config.json").read_text())
    assert ours | {"_diffusers_version": ""} == theirs | {"_diffusers_version": ""} | (
        {"_name_or_path": ours["_name_or_path"]} if "_name_or_path" in ours else {}
    )
    saved = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for name, value in load_file(basic.checkpoint / "audio_vae" / "diffusion_pytorch_model.safetensors").items():
        assert torch.equal(saved[name], value)


def test_released_config_has_the_released_parameter_count() -> None:
    with torch.device("meta"):
        vae = DAC(**RELEASED)
    assert sum(p.numel() for p in vae.parameters()) == 371_539_137
    assert (vae.hop_length, vae.sampling_rate, vae.latent_dim) == (960, 48000, 128)


@torch.no_grad()
def test_batch_of_two_equals_two_batches_of_one(basic: Golden) -> None:
    vae = load_vae(basic)
    wave = basic["audio_vae/wave"]
    waves = torch.cat([wave, wave.flip(-1)])
    both = vae.encode(waves)
    decoded = vae.decode(both.mean)
    for i in range(2):
        one = vae.encode(waves[i : i + 1])
        assert relative_error(both.mean[i : i + 1], one.mean) < 1e-5
        assert relative_error(both.logvar[i : i + 1], one.logvar) < 1e-5
        assert relative_error(decoded[i : i + 1], vae.decode(one.mean)) < 1e-5


@pytest.mark.parametrize("naming", ["weight_g", "parametrizations"])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_weight_normalised_checkpoint_equals_its_fused_one(basic: Golden, naming: str) -> None:
    plain = load_vae(basic)
    normed = load_vae(basic)
    apply = weight_norm if naming == "weight_g" else parametrizations.weight_norm
    for module in normed.modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)) and module.kernel_size != (1,):
            apply(module)
    for name, parameter in normed.named_parameters():
        if name.endswith(("weight_g", "original0")):
            parameter.mul_(1.5)  # a magnitude that is not the direction's own length
    stored = normed.state_dict()
    assert any(naming in name for name in stored)
    fused = fuse_weight_norm(stored)
    assert not any(naming in name for name in fused)
    plain.load_state_dict(fused)
    wave = basic["audio_vae/wave"]
    theirs, ours = normed.encode(wave), plain.encode(wave)
    assert relative_error(ours.mean, theirs.mean) < 1e-5
    assert relative_error(plain.decode(theirs.mean), normed.decode(theirs.mean)) < 1e-5


def test_diffusers_loader_refuses_weight_normalised_files(basic: Golden, tmp_path: Path) -> None:
    folder = writable_copy(basic.checkpoint / "audio_vae", tmp_path / "audio_vae")
    file = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    weight = state.pop("decoder.model.0.weight")
    state |= {"decoder.model.0.weight_g": weight[:, :1, :1].clone(), "decoder.model.0.weight_v": weight}
    save_file(state, file)
    with pytest.raises(CheckpointError, match=r"which DAC\.from_pretrained does not fold; open the whole checkpoint"):
        DAC.from_pretrained(folder)


def test_fusing_leaves_plain_checkpoints_and_their_dtype_alone() -> None:
    plain = {"a.weight": torch.ones(2, 3, 1), "a.bias": torch.zeros(2)}
    assert fuse_weight_norm(plain) == plain
    half = {"a.weight_g": torch.ones(2, 1, 1).bfloat16(), "a.weight_v": torch.ones(2, 4, 1).bfloat16()}
    fused = fuse_weight_norm(half)
    assert fused["a.weight"].dtype == torch.bfloat16
    assert torch.equal(fused["a.weight"].float(), torch.full((2, 4, 1), 0.5))


def test_half_of_a_weight_norm_pair_is_refused() -> None:
    with pytest.raises(CheckpointError, match="weight_g is missing"):
        fuse_weight_norm({"decoder.model.0.weight_v": torch.ones(2, 3, 1)})


def test_weight_norm_flag_is_false_in_the_config_of_a_loaded_model() -> None:
    vae = DAC(encoder_dim=2, decoder_dim=4, encoder_rates=[2], decoder_rates=[2], use_weight_norm=True)
    assert vae.config.use_weight_norm is False


def test_quantised_dac_is_refused() -> None:
    with pytest.raises(CheckpointError, match="quantised DAC is not supported: MOVA uses the continuous one"):
        DAC(continuous=False)


def test_rates_that_do_not_undo_each_other_are_refused() -> None:
    with pytest.raises(CheckpointError, match="products must be equal"):
        DAC(encoder_rates=[2, 2], decoder_rates=[2, 3])


@pytest.mark.parametrize("rates", [[3], [5, 3], [2, 7], [4, 4, 4, 5]])
@torch.no_grad()
def test_lengths_are_whole_hops_for_odd_and_even_rates(rates: list[int]) -> None:
    vae = DAC(encoder_dim=2, encoder_rates=rates, decoder_dim=16, decoder_rates=rates[::-1], latent_dim=3)
    for samples in (1, vae.hop_length, 7 * vae.hop_length - 1, 7 * vae.hop_length + 1):
        latents = -(-samples // vae.hop_length)
        posterior = vae.encode(torch.zeros(1, 1, samples))
        assert posterior.mean.shape == (1, 3, latents)
        assert vae.decode(posterior.mean).shape == (1, 1, latents * vae.hop_length)
        assert vae(torch.zeros(1, 1, samples)).wave.shape == (1, 1, samples)


@pytest.mark.parametrize("shape", [(1, 2, 100), (1, 100), (1, 1, 0)])
def test_waves_that_are_not_mono_batches_are_refused(shape: tuple[int, ...]) -> None:
    vae = DAC(encoder_dim=2, decoder_dim=4, encoder_rates=[2], decoder_rates=[2])
    with pytest.raises(InputError, match=r"expected \[batch, 1, samples\]"):
        vae.encode(torch.zeros(shape))
    with pytest.raises(InputError, match="audio latents have shape"):
        vae.decode(torch.zeros(1, 9, 2))


def test_posterior_samples_are_repeatable_and_have_its_moments() -> None:
    posterior = AudioPosterior(torch.full((1, 4, 5000), 2.0), torch.full((1, 4, 5000), -2.0))
    draws = [posterior.sample(torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].mean().item() == pytest.approx(2.0, abs=0.01)
    assert draws[0].std().item() == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.03)
    assert torch.equal(posterior.mode(), posterior.mean)


def test_kl_is_zero_for_the_unit_gaussian_and_grows_with_the_mean() -> None:
    unit = AudioPosterior(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    shifted = AudioPosterior(torch.full((2, 3, 4), 2.0), torch.zeros(2, 3, 4))
    assert torch.equal(unit.kl(), torch.zeros(2))
    assert torch.allclose(shifted.kl(), torch.full((2,), 2.0))
