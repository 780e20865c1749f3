"""The embedded model's tokenizer and text encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, T5Tokenizer

from phonofilm.nano.world import make_clip
from recipes.nano.text_encoder import build_text_encoder, make_tokenizer

CAPTIONS = [make_clip(seed, size=8, num_frames=1).caption for seed in range(150)]


def test_every_word_of_a_caption_is_one_token_and_comes_back() -> None:
    tokenizer = make_tokenizer(CAPTIONS)
    for caption in CAPTIONS[:20]:
        ids = tokenizer(caption).input_ids
        assert ids[-1] == tokenizer.eos_token_id == 1
        assert tokenizer.unk_token_id not in ids
        assert len(ids) <= 1 + len(caption.split()) + sum(not c.isalnum() and c != " " for c in caption) * 2
        assert tokenizer.decode(ids, skip_special_tokens=True) == caption.lower()


def test_unknown_words_are_spelled_and_case_does_not_matter() -> None:
    tokenizer = make_tokenizer(CAPTIONS)
    assert tokenizer("A RED Ball").input_ids == tokenizer("a red ball").input_ids
    spelled = tokenizer("zebra quartz").input_ids
    assert tokenizer.unk_token_id not in spelled
    assert tokenizer("é").input_ids.count(tokenizer.unk_token_id) == 1


def test_it_reads_the_same_from_its_folder(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(CAPTIONS)
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    as_t5 = T5Tokenizer.from_pretrained(tmp_path)
    for caption in CAPTIONS[:5]:
        expected = tokenizer(caption).input_ids
        assert again(caption).input_ids == expected
        assert as_t5(caption.lower()).input_ids == expected


def test_the_encoder_reads_every_token() -> None:
    tokenizer = make_tokenizer(CAPTIONS)
    encoder = build_text_encoder(len(tokenizer), width=16, layers=1, heads=2).eval()
    with torch.no_grad():
        red, blue = (
            encoder(**tokenizer(f"a {colour} ball", return_tensors="pt")).last_hidden_state
            for colour in ("red", "blue")
        )
    assert red.shape == (1, 4, 16)
    assert not torch.allclose(red[:, -1], blue[:, -1])
