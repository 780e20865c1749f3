"""The inception score and CLAP without their weights: formulas, what the networks are fed with, and the original's numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.evaluation_clips import noise, shown
from tests.unit.seeded_weights import fill_seeded, seeded_input, seeded_tensor
from torch import Tensor

from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.features.clap_windows import FRAMES, WINDOW, clap_windows
from phonofilm.evaluation.metric import Setup
from phonofilm.evaluation.metrics.clap import ClapScore, sixteen_bits
from phonofilm.evaluation.metrics.inception import Inception, inception_score
from phonofilm.evaluation.networks.clap import Clap, ClapSize, clap_tensors
from phonofilm.evaluation.networks.cnn14 import Cnn14
from phonofilm.evaluation.networks.published import load_network
from phonofilm.evaluation.prompt_items import PromptItem
from phonofilm.evaluation.rows import measured
from phonofilm.evaluation.weights import check

PROMPT = PromptItem("ball", "made", "a ball knocks on a wooden floor")


def test_distinct_clips_score_their_number_and_equal_ones_one() -> None:
    assert inception_score(np.eye(8, 527)) == pytest.approx(8, rel=1e-6)
    assert inception_score(np.full((5, 527), 1 / 527)) == pytest.approx(1, rel=1e-6)
    shares = np.random.default_rng(0).dirichlet(np.ones(527), 6)
    mean = shares.mean(0)
    wanted = math.exp(np.mean([sum(p * math.log(p / q) for p, q in zip(row, mean, strict=True)) for row in shares]))
    assert inception_score(shares) == pytest.approx(wanted, rel=1e-6)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClipFacts]:
    folder = tmp_path_factory.mktemp("sounds")
    frames = np.zeros((24, 32, 32, 3), np.uint8)
    waves = {"noise": noise(1.0), "silence": np.zeros(16_000), "short": noise(0.25)}
    return {
        name: ClipFacts(
            shown(folder / f"{name}.mp4", frames[: round(len(wave) / 16_000 * 24)], wave), name, item=PROMPT
        )
        for name, wave in waves.items()
    }


@pytest.fixture(scope="module")
def cnn14() -> Cnn14:
    """Seeded, with quieter classes, and blind beyond the first 0.64 s: ten seconds are for runs by hand."""
    network: Cnn14 = fill_seeded(Cnn14())  # type: ignore[assignment]
    network.fc_audioset.weight.mul_(0.02)
    network.get_submodule("conv_block1").register_forward_pre_hook(lambda block, given: (given[0][:, :, :64],))
    return network


@pytest.mark.parametrize("profile", ["compat", "fixed"])
def test_a_set_scores_from_its_clips_class_shares(clips: dict[str, ClipFacts], cnn14: Cnn14, profile: str) -> None:
    metric = Inception(Setup(profile))  # type: ignore[arg-type]
    metric.network = cnn14
    row = metric.measure(clips["noise"])
    assert row.state == "ok"
    assert sum(row.series["class_shares"]) == pytest.approx(1, abs=1e-5)
    assert metric.aggregate([row, row])["is"] == pytest.approx(1)
    assert metric.measure(clips["silence"]).reason == "the sound is silent"
    assert "at least 0.5 s" in metric.measure(clips["short"]).reason
    other = measured({}, {}, {"class_shares": np.eye(1, 527)[0].tolist()})
    assert metric.aggregate([row, other])["is"] > 1.2


def test_sounds_are_repeated_and_padded_or_cut_into_chunks() -> None:
    wave = seeded_input(200_000) * 0.1
    levels, longer = clap_windows(wave)
    assert (levels.shape, longer) == ((4, FRAMES, 64), False)
    assert torch.equal(levels[0], levels[3])
    assert float(levels[0, 840:].max()) == -100  # twice 200,000 samples, then silence; a frame every 480
    twice, _ = clap_windows(seeded_input(240_000) * 0.1)
    torch.testing.assert_close(twice[0, 50:400], twice[0, 550:900], rtol=0, atol=0.05)
    levels, longer = clap_windows(seeded_input(WINDOW + 96_000))
    assert (levels.shape, longer) == ((4, FRAMES, 64), True)
    assert not torch.equal(levels[1], levels[2])


def test_sound_is_put_at_its_peak_in_sixteen_bits() -> None:
    found = sixteen_bits(np.array([0.0, 0.1, -0.2], np.float32))
    np.testing.assert_array_equal(found * 32767, [0, int(0.5 * 10**-0.05 * 32767), -int(10**-0.05 * 32767)])


@pytest.fixture(scope="module")
def clap() -> Clap:
    """A network with the original's names and seeded weights, loaded as the published file is."""
    size = ClapSize(300, 1)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Clap(size).state_dict().items()}
    published = {name: seeded_tensor(name, shape) for name, shape in _original_names(shapes).items()}
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    apart = [(side.flatten()[:, None] - side.flatten()) + 7 for side in (rows, columns)]
    kept = {name: apart[0] * 15 + apart[1] for name in shapes if "relative_position_index" in name}
    tensors = clap_tensors({f"module.{name}": tensor for name, tensor in published.items()}) | kept
    counted = {name: torch.zeros((), dtype=torch.long) for name in shapes if name.endswith("num_batches_tracked")}
    return load_network(lambda: Clap(size), tensors | counted, Path("clap.pt"))


def _original_names(shapes: dict[str, torch.Size]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        name = name.removeprefix("model.")
        if any(part in name for part in ("position_ids", "token_type_ids", "position_index", "num_batches")):
            continue
        size = tuple(shape)
        for new, old in (
            ("text_model.", "text_branch."),
            ("audio_model.audio_encoder.batch_norm.", "audio_branch.bn0."),
            ("audio_model.audio_encoder.", "audio_branch."),
            ("_projection.linear1.", "_projection.0."),
            ("_projection.linear2.", "_projection.2."),
        ):
            name = name.replace(new, old)
        if name.startswith("audio_branch.layers"):
            for new, old in (
                ("layernorm_before", "norm1"),
                ("layernorm_after", "norm2"),
                ("attention.output.dense", "attn.proj"),
                ("attention.self.relative", "attn.relative"),
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            ):
                name = name.replace(new, old)
            if "attention.self.query" in name:
                name, size = name.replace("attention.self.query", "attn.qkv"), (3 * size[0], *size[1:])
            elif "attention.self" in name:
                continue
        found[name] = size
    return found


def test_clap_hears_and_reads_what_the_original_does(clap: Clap) -> None:
    with torch.inference_mode():
        level = seeded_input(1, 1001, 64) * 20 - 40
        found = clap.embed_sound(torch.stack([level] * 4, 1), False)[0, :4]
        _close(found, [0.0507693775, 0.0099925855, 0.0480201021, -0.0191417336])
        found = clap.embed_sound(seeded_input(1, 4, 1001, 64, seed=3) * 20 - 40, True)[0, :4]
        _close(found, [-0.0403413214, 0.0162368286, -0.0078808106, 0.0223427098])
        ids = torch.randint(3, 300, (1, 77), generator=torch.Generator().manual_seed(0))
        mask = torch.ones(1, 77, dtype=torch.long)
        mask[:, 50:], ids[:, 50:] = 0, 1
        _close(clap.embed_text(ids, mask)[0, :4], [-0.0320475958, -0.0098539898, 0.0239618681, 0.0247066580])


@pytest.mark.parametrize(("profile", "rate"), [("compat", 32_000), ("fixed", 48_000)])
def test_the_published_score_hears_32_khz_as_48(
    clap: Clap, clips: dict[str, ClipFacts], profile: str, rate: int
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "ball": 4, "floor": 5}
    metric = ClapScore(Setup(profile))  # type: ignore[arg-type]
    metric.network = clap
    metric.tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    metric.tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    row = metric.measure(clips["noise"])
    heard = clips["noise"].extracted(rate, "s16", "stereo").astype(np.float32).mean(0) / 32768
    levels, _ = clap_windows(torch.from_numpy(sixteen_bits(heard)))
    ids = torch.tensor([[3, 4, 3, 3, 3, 3, 5] + [1] * 70])
    with torch.inference_mode():
        wanted = clap.embed_sound(levels[None], False) @ clap.embed_text(ids, (ids != 1).long()).T
    assert row.values["clap"] == pytest.approx(float(wanted), abs=1e-5)
    assert row.detail == {"prompt_tokens": 7, "prompt_cut": False}
    assert metric.measure(clips["silence"]).reason == "the sound is silent"


def test_without_weights_a_metric_says_which_file_it_lacks() -> None:
    lacks = check(ClapScore(Setup())).reason
    assert "630k-audioset-fusion-best.pt (1,863,889,051 bytes, CC0, from huggingface.co/lukewys/laion_clap" in lacks
    assert "roberta-base/tokenizer.json (about 1,360,000 bytes, MIT" in lacks


def _close(found: Tensor, wanted: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=0, atol=1e-5)
