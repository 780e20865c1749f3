"""The metrics' networks: the published files' names and shapes, and what the published code computes with the same weights."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.seeded_weights import fill_seeded, seeded_input
from torch import Tensor, nn

from phonofilm.errors import CheckpointError
from phonofilm.evaluation.networks.cnn14 import Cnn14
from phonofilm.evaluation.networks.imagebind import ImageBind, ImageBindSize
from phonofilm.evaluation.networks.published import load_network, read_published
from phonofilm.evaluation.networks.s3fd import S3FD
from phonofilm.evaluation.networks.synchformer import Synchformer, SynchformerSize
from phonofilm.evaluation.networks.syncnet import SyncNet


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@lru_cache
def _shapes(network: type[nn.Module]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}


@pytest.mark.parametrize(
    ("network", "tensors", "numbers"),
    [
        (SyncNet, 102, 13_640_270),
        (S3FD, 65, 22_459_110),
        (Cnn14, 84, 81_853_340),
        (Synchformer, 513, 237_460_245),
        (ImageBind, 569, 719_065_089),
    ],
)
def test_networks_have_the_tensors_of_the_published_files(network: type[nn.Module], tensors: int, numbers: int) -> None:
    shapes = _shapes(network)
    assert len(shapes) == tensors
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == numbers


@pytest.mark.parametrize(
    ("network", "name", "shape"),
    [
        (SyncNet, "netcnnaud.4.weight", (192, 64, 3, 3)),
        (SyncNet, "netcnnaud.18.bias", (512,)),
        (SyncNet, "netcnnlip.18.weight", (512, 256, 1, 6, 6)),
        (SyncNet, "netcnnlip.19.num_batches_tracked", ()),
        (SyncNet, "netfclip.3.weight", (1024, 512)),
        (S3FD, "vgg.31.weight", (1024, 512, 3, 3)),
        (S3FD, "L2Norm5_3.weight", (512,)),
        (S3FD, "conf.0.weight", (4, 256, 3, 3)),
        (S3FD, "extras.3.bias", (256,)),
        (Cnn14, "spectrogram_extractor.stft.conv_imag.weight", (513, 1, 1024)),
        (Cnn14, "logmel_extractor.melW", (513, 64)),
        (Cnn14, "conv_block6.bn2.running_var", (2048,)),
        (Cnn14, "fc_audioset.bias", (527,)),
        (Synchformer, "vfeat_extractor.patch_embed_3d.proj.weight", (768, 3, 2, 16, 16)),
        (Synchformer, "vfeat_extractor.blocks.11.timeattn.qkv.bias", (2304,)),
        (Synchformer, "vfeat_extractor.spatial_attn_agg.self_attn.in_proj_weight", (2304, 768)),
        (Synchformer, "afeat_extractor.ast.embeddings.position_embeddings", (1, 74, 768)),
        (Synchformer, "afeat_extractor.ast.encoder.layer.0.attention.attention.query.weight", (768, 768)),
        (Synchformer, "transformer.pos_emb_cfg.pos_emb", (1, 198, 768)),
        (Synchformer, "transformer.off_head.bias", (21,)),
        (ImageBind, "modality_preprocessors.vision.rgbt_stem.proj.1.weight", (1280, 3, 2, 14, 14)),
        (ImageBind, "modality_preprocessors.audio.pos_embedding_helper.pos_embed", (1, 229, 768)),
        (ImageBind, "modality_trunks.vision.pre_transformer_layer.0.bias", (1280,)),
        (ImageBind, "modality_trunks.audio.blocks.11.attn.bias_k", (1, 1, 768)),
        (ImageBind, "modality_heads.vision.2.weight", (1024, 1280)),
        (ImageBind, "modality_postprocessors.audio.1.log_logit_scale", ()),
    ],
)
def test_tensors_have_the_published_names(network: type[nn.Module], name: str, shape: tuple[int, ...]) -> None:
    assert _shapes(network)[name] == shape


@pytest.fixture(scope="module")
def syncnet() -> SyncNet:
    return fill_seeded(SyncNet())  # type: ignore[return-value]


def test_syncnet_sees_and_hears_what_the_original_does(syncnet: SyncNet) -> None:
    faces = (seeded_input(2, 3, 5, 224, 224) * 60 + 120).clamp(0, 255)
    _close(syncnet.embed_faces(faces)[0, :4], [22.446041107, 205.8049316, 0.859701753, -151.4727478], 2e-2)
    _close(syncnet.embed_faces(faces).norm(dim=1), [7634.599609, 7764.29345], 0.5)
    sound = syncnet.embed_sound(seeded_input(2, 1, 13, 20, seed=1) * 10)
    _close(sound[0, :4], [10.582262993, 12.755388260, 44.46561050, -14.394001007], 1e-3)
    _close(sound.norm(dim=1), [874.0327148, 779.5158081], 0.05)


def test_s3fd_finds_the_boxes_of_the_original() -> None:
    detector: S3FD = fill_seeded(S3FD())  # type: ignore[assignment]
    boxes, chances = detector(seeded_input(1, 3, 88, 156) * 50)
    assert boxes.shape == (1, 1143, 4)
    _close(boxes[0, 0], [-0.0382356346, -0.0723293126, 0.0659682155, 0.1146140248], 1e-5)
    _close(boxes[0, 500], [0.7805866599, 0.4706907571, 0.8848565221, 0.6644716263], 1e-5)
    _close(boxes[0, -1], [-2.6182613373, -11.959363938, 5.1645083427, 5.7091064453], 1e-3)
    _close(chances[0, [0, 500, -1]], [0.4195645750, 0.4072221220, 0.9943821430], 1e-5)
    assert float(chances.sum()) == pytest.approx(500.86087, abs=1e-2)


def test_cnn14_hears_what_the_original_does() -> None:
    chances = fill_seeded(Cnn14())(seeded_input(2, 32_000) * 0.1)
    assert chances.shape == (2, 527)
    _close(chances[:, 2], [0.9993293285, 0.9988947511], 1e-5)
    assert float(chances.sum()) == pytest.approx(524.256897, abs=1e-2)


def test_synchformer_compares_what_the_original_does() -> None:
    network: Synchformer = fill_seeded(Synchformer(SynchformerSize(24, 2, 3, 3, 4)))  # type: ignore[assignment]
    video = network.embed_video(seeded_input(14, 3, 16, 224, 224).clamp(-1, 1))
    _close(video[0, 0, :4], [-0.1906401813, 1.3329527378, -3.4158496857, 2.2223300934], 1e-4)
    _close(video[13, 7, :4], [0.5706403852, 1.5193243027, -4.7056388855, 1.2608451843], 1e-4)
    sound = network.embed_sound(seeded_input(14, 128, 66, seed=1))
    _close(sound[0, 0, :4], [2.2270617485, -2.7599828243, 0.6595536470, 0.6738495231], 1e-4)
    _close(sound[13, 5, :4], [0.2745241523, -1.0315710306, 0.3942302465, 1.8119374514], 1e-4)
    logits = network.compare(video[None], sound[None])[0]
    _close(logits[:4], [-1.0601350069, 1.4044091702, 0.0430736877, -0.8814753890], 1e-4)
    assert int(logits.argmax()) == 13


def test_imagebind_embeds_what_the_original_does() -> None:
    network: ImageBind = fill_seeded(ImageBind(ImageBindSize(32, 2, 4, 24, 2, 3, 24)))  # type: ignore[assignment]
    video = network.embed_video(seeded_input(6, 3, 2, 224, 224))
    _close(video[0, :4], [0.0967535675, 0.1354562342, 0.2494880110, -0.1169536337], 1e-5)
    _close(video[5, :4], [0.0759931058, 0.1022909135, 0.1858132631, -0.0768775791], 1e-5)
    sound = network.embed_sound(seeded_input(3, 1, 128, 204, seed=1))
    _close(sound[0, :4], [-0.0849417224, -0.3191777766, -0.0211230926, -0.4074102342], 1e-5)
    _close(sound.norm(dim=1), [0.9988] * 3, 1e-4)


@pytest.mark.parametrize("zipped", [True, False])
def test_published_files_load_in_both_formats_of_torch(tmp_path: Path, syncnet: SyncNet, zipped: bool) -> None:
    file = tmp_path / "syncnet_v2.model"
    torch.save(syncnet.state_dict(), file, _use_new_zipfile_serialization=zipped)
    loaded = load_network(SyncNet, read_published(file), file)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, syncnet.state_dict()[name])
    assert not loaded.training


def test_tensors_may_lie_under_a_key_beside_others(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    weights = {"weight": torch.ones(2, 3, dtype=torch.float16), "bias": torch.zeros(2), "other.weight": torch.ones(1)}
    torch.save({"iteration": 7, "model": weights}, file)
    loaded = load_network(lambda: nn.Linear(3, 2), read_published(file, "model"), file)
    assert loaded.weight.dtype is torch.float32
    with pytest.raises(CheckpointError, match=r"no entry 'state_dict'.* it has iteration, model"):
        read_published(file, "state_dict")


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_beside_the_tensors_do_no_harm(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "630k.pt"
    content = {"epoch": np.int64(7), "loss": np.float64(0.5), "state_dict": {"module.a": torch.ones(2)}}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_published(file, "state_dict")["module.a"], torch.ones(2))


def test_a_file_of_another_network_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.pth lacks 65 of the 65 tensors of S3FD: vgg\.0\.weight, "):
        load_network(S3FD, {"weight": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has other shapes of 1 of the 2 tensors of Linear: weight"):
        load_network(lambda: nn.Linear(3, 2), {"weight": torch.ones(1), "bias": torch.ones(2)}, tmp_path / "x.pth")


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must not run",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_runs_code_is_refused(tmp_path: Path, zipped: bool, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sfd_face.pth"
    torch.save({"a": _Runs()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused"):
        read_published(file)
    file.write_bytes(pickle.dumps({"a": _Runs()}))
    with pytest.raises(CheckpointError, match="refused"):
        read_published(file)
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="refused"):
        read_published(file)
    assert capsys.readouterr().out == ""


def _close(found: Tensor, wanted: list[float], tolerance: float) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-4, atol=tolerance)
