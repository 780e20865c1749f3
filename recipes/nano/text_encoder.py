"""The embedded model's words: a small tokenizer made from the world's captions, and an untrained text encoder for it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPACE = "▁"
# Any letter may stand in a prompt, also one that no caption has; spelling is a last resort, so it costs much.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"
SPELLING_COST = -25.0
PIECE = re.compile(rf"{SPACE}?[a-z]+|{SPACE}?[^a-z{SPACE}]|{SPACE}")


def make_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """A unigram tokenizer with the T5 family's special tokens (pad 0, end 1, unknown 2), blind to upper and lower case.

    Every word of the captions is one token, ordered by how often it comes; other words are spelled.
    """
    counts = Counter(piece for caption in captions for piece in PIECE.findall(_marked(caption)))
    total = sum(counts.values())
    words = sorted(counts, key=lambda piece: (-counts[piece], piece))
    vocabulary = [(token, 0.0) for token in (PAD, END, UNKNOWN)]
    vocabulary += [(word, math.log(counts[word] / total)) for word in words]
    vocabulary += [(letter, SPELLING_COST) for letter in (SPACE, *ALPHABET) if letter not in counts]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=512
    )


def build_text_encoder(
    vocab_size: int, *, width: int = 128, layers: int = 2, heads: int = 4, seed: int = 0
) -> UMT5EncoderModel:
    """An untrained encoder of the released class; the joint training trains it. No dropout: there is little to overfit."""
    torch.manual_seed(seed)
    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=width,
        d_kv=width // heads,
        d_ff=2 * width,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return UMT5EncoderModel(config)


def _marked(caption: str) -> str:
    """The caption as the tokenizer sees it: lower case, a mark before every word."""
    return SPACE + caption.lower().replace(" ", SPACE)
