"""Saving: the released layout and names, byte for byte, whole or not at all."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import pytest
import torch
from tests.conftest import Golden
from tests.unit.checkpoints import GOLDEN, copy_golden, weights_of

from phonofilm.errors import InputError
from phonofilm.models.checksums import CHECKSUMS, write_checksums
from phonofilm.models.health import CheckpointFinding, health
from phonofilm.models.layout import read_layout
from phonofilm.models.loading import load_component, load_components, load_tokenizer
from phonofilm.models.saving import save_checkpoint, save_component, split_shards
from phonofilm.models.video import WanModel


def save_again(root: Path, target: Path, **options: object) -> Path:
    layout = read_layout(root)
    return save_checkpoint(
        target,
        load_components(layout),
        load_tokenizer(layout),
        layout.scheduler_config,
        layout.scalars,
        tokenizer_class=layout.tokenizer_class,
        **options,  # type: ignore[arg-type]
    )


def test_saving_gives_back_the_same_folder_byte_for_byte(golden: Golden, tmp_path: Path) -> None:
    saved = save_again(golden.checkpoint, tmp_path / "saved")
    files = {str(path.relative_to(golden.checkpoint)) for path in golden.checkpoint.rglob("*") if path.is_file()}
    assert {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()} == files | {"checksums.sha256"}
    different = [f for f in files if not filecmp.cmp(golden.checkpoint / f, saved / f, shallow=False)]
    assert different == []
    assert {(saved / f).stat().st_mode & 0o777 for f in files if f.endswith(".safetensors")} == {0o644}


def test_where_a_module_came_from_is_not_written_down(tmp_path: Path) -> None:
    loaded = WanModel.from_pretrained(GOLDEN / "video_dit")
    save_component(tmp_path / "saved", loaded, 10**9)
    assert str(GOLDEN) not in (tmp_path / "saved" / "config.json").read_text()


def test_using_the_tokenizer_does_not_change_what_is_saved(tmp_path: Path) -> None:
    layout = read_layout(GOLDEN)
    tokenizer = load_tokenizer(layout)
    tokenizer(["two words"], padding="max_length", max_length=512, truncation=True)
    save_checkpoint(tmp_path / "saved", load_components(layout), tokenizer, layout.scheduler_config, layout.scalars)
    assert filecmp.cmp(
        GOLDEN / "tokenizer" / "tokenizer.json", tmp_path / "saved" / "tokenizer" / "tokenizer.json", False
    )
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["tokenizer"] == ["transformers", "T5TokenizerFast"]


def test_saving_in_shards_has_the_names_that_diffusers_and_transformers_use(tmp_path: Path) -> None:
    saved = save_again(GOLDEN, tmp_path / "saved", max_shard_size="250KB")
    shards = sorted(path.name for path in (saved / "video_dit").glob("*.safetensors"))
    assert shards == [f"diffusion_pytorch_model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert all(path.stat().st_size < 270_000 for path in (saved / "video_dit").glob("*.safetensors"))
    index = json.loads((saved / "video_dit" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in weights_of(GOLDEN, "video_dit").values())
    state = load_component(read_layout(saved), "video_dit").state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in weights_of(GOLDEN, "video_dit").items())


def test_a_tensor_larger_than_a_shard_is_alone_in_its_own() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(100), "c": torch.zeros(2), "d": torch.zeros(2)}
    assert [list(shard) for shard in split_shards(state, max_bytes=16)] == [["a"], ["b"], ["c", "d"]]


def test_one_expert_is_saved_as_null_and_loaded_as_none(tmp_path: Path) -> None:
    layout = read_layout(GOLDEN, skip=("video_dit_2",))
    assert "video_dit_2" not in layout.components
    saved = save_checkpoint(
        tmp_path / "saved", load_components(layout), load_tokenizer(layout), layout.scheduler_config, layout.scalars
    )
    assert json.loads((saved / "model_index.json").read_text())["video_dit_2"] == [None, None]
    assert "video_dit_2" not in read_layout(saved).components


def test_a_full_folder_is_overwritten_only_when_asked_and_only_at_the_end(tmp_path: Path) -> None:
    target = copy_golden(tmp_path)
    (target / "notes.txt").write_text("mine")
    layout = read_layout(target)
    networks, tokenizer = load_components(layout), load_tokenizer(layout)
    with pytest.raises(InputError, match="not empty; choose another folder or pass overwrite=True"):
        save_checkpoint(target, networks, tokenizer, layout.scheduler_config, layout.scalars)
    without = {name: network for name, network in networks.items() if name != "audio_dit"}
    with pytest.raises(InputError, match="without audio_dit"):
        save_checkpoint(target, without, tokenizer, layout.scheduler_config, layout.scalars, overwrite=True)
    assert (target / "notes.txt").exists()
    # The networks are maps of the very files that are replaced.
    save_checkpoint(target, networks, tokenizer, layout.scheduler_config, layout.scalars, overwrite=True)
    assert not (target / "notes.txt").exists()
    assert torch.equal(
        weights_of(target, "audio_dit")["head.head.weight"], weights_of(GOLDEN, "audio_dit")["head.head.weight"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    layout = read_layout(GOLDEN)
    networks: dict[str, torch.nn.Module] = {**load_components(layout), "text_encoder": torch.nn.Linear(2, 2)}
    with pytest.raises(InputError, match="text_encoder is a Linear"):
        save_checkpoint(tmp_path / "saved", networks, load_tokenizer(layout), layout.scheduler_config, layout.scalars)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is no checkpoint, so it is not replaced"):
        save_again(GOLDEN, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="cannot write"):
        save_again(GOLDEN, tmp_path / "file" / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_tokenizers_files_are_copied_byte_for_byte(tmp_path: Path) -> None:
    source = copy_golden(tmp_path)
    # As the released checkpoints have it, written by transformers 4.
    old = {"additional_special_tokens": ["<extra_id_0>"], "added_tokens_decoder": {}, "tokenizer_class": "T5Tokenizer"}
    (source / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(old, indent=7))
    (source / "tokenizer" / "special_tokens_map.json").write_text('{"pad_token": "<pad>"}')
    (source / "tokenizer" / "spiece.model").write_bytes(b"\x00sentencepiece")
    saved = save_again(source, tmp_path / "saved")
    names = sorted(path.name for path in (source / "tokenizer").iterdir())
    assert sorted(path.name for path in (saved / "tokenizer").iterdir()) == names
    for name in names:
        assert (saved / "tokenizer" / name).read_bytes() == (source / "tokenizer" / name).read_bytes()


def test_transformers_4_finds_no_list_where_it_wants_a_mapping(tmp_path: Path) -> None:
    layout = read_layout(GOLDEN)
    tokenizer, networks = load_tokenizer(layout), load_components(layout)
    saved = save_again(GOLDEN, tmp_path / "as-read")
    tokenizer.add_tokens(["xylophone"])
    changed = save_checkpoint(tmp_path / "changed", networks, tokenizer, layout.scheduler_config, layout.scalars)
    for folder in (saved, changed):
        assert "extra_special_tokens" not in json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
    assert load_tokenizer(read_layout(changed)).encode("xylophone") == tokenizer.encode("xylophone")


def test_an_embedding_stored_once_is_tied_whatever_the_config_says(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path)  # as the released text encoders are, which transformers 5.0 refuses
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    assert list(weights_of(folder, "text_encoder")).count("encoder.embed_tokens.weight") == 0
    encoder = load_component(read_layout(folder), "text_encoder")
    assert encoder.encoder.embed_tokens.weight is encoder.shared.weight
    again = load_component(read_layout(save_again(folder, tmp_path / "saved")), "text_encoder")
    assert torch.equal(again.encoder.embed_tokens.weight, weights_of(GOLDEN, "text_encoder")["shared.weight"])


def test_one_flipped_bit_in_what_was_saved_is_found(tmp_path: Path) -> None:
    saved = save_again(GOLDEN, tmp_path / "saved")
    assert all(finding.severity == "ok" for finding in health(saved, checksums=True))
    file = saved / "video_dit" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    wrong = [finding for finding in health(saved, checksums=True) if finding.severity == "error"]
    assert [finding.subject for finding in wrong] == ["video_dit/diffusion_pytorch_model.safetensors"]
    assert "is damaged" in wrong[0].message


def test_a_flipped_bit_of_a_file_that_is_no_network_is_found(tmp_path: Path) -> None:
    """A sentencepiece model or an own LoRA is listed too, and was not looked at."""
    saved = save_again(GOLDEN, tmp_path / "saved")
    (saved / "tokenizer" / "spiece.model").write_bytes(b"pieces")
    write_checksums(saved)
    (saved / "tokenizer" / "spiece.model").write_bytes(b"qieces")
    assert [one.subject for one in errors_of(saved)] == ["tokenizer/spiece.model"]
    (saved / "tokenizer" / "spiece.model").unlink()
    assert "is gone" in errors_of(saved)[0].message


@pytest.mark.parametrize("damage", ["empty", "cut", "upper", "outside", "other", "zeros"])
def test_damaged_checksums_are_no_checksums_to_trust(damage: str, tmp_path: Path) -> None:
    """Verified as if there had never been any, they let every other damage pass."""
    saved = save_again(GOLDEN, tmp_path / "saved")
    text = (saved / CHECKSUMS).read_text()
    broken = {
        "empty": "",
        "cut": text[40:],
        "upper": text.upper(),
        "outside": f"{text}{'0' * 64}  ../other\n",
        "other": "not what we wrote\n",
        "zeros": "\0" * 100,
    }
    (saved / CHECKSUMS).write_text(broken[damage])
    said = [finding for finding in health(saved, checksums=True) if finding.severity != "ok"]
    assert "checksums.sha256 is damaged" in said[-1].message
    (saved / CHECKSUMS).unlink()
    assert errors_of(saved) == []


def errors_of(folder: Path) -> list[CheckpointFinding]:
    return [finding for finding in health(folder, checksums=True) if finding.severity == "error"]
