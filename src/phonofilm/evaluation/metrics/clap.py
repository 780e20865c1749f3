"""The CLAP score: how near a clip's sound is to its prompt in LAION-CLAP's space."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phonofilm.errors import CheckpointError
from phonofilm.evaluation.clip_facts import ClipFacts
from phonofilm.evaluation.metric import Figure, Metric
from phonofilm.evaluation.metrics.inception import SILENT_PEAK, stereo_mean
from phonofilm.evaluation.published_files import CLAP, ROBERTA_TOKENIZER
from phonofilm.evaluation.requirements import Requirements
from phonofilm.evaluation.rows import Row, measured, not_applicable
from phonofilm.evaluation.weights import find_weights

if TYPE_CHECKING:
    from phonofilm.evaluation.networks.clap import Clap

RATE = 48_000
COMPAT_RATE = 32_000
PEAK = 10 ** (-1 / 20)  # -1 dB of full scale
PADDING = "<pad>"


class ClapScore(Metric):
    """Cosine of the embeddings of a clip's sound and of its whole prompt, from -1 to 1.

    compat: the sound is extracted at 32 kHz and heard as if it were 48 kHz, so everything is half as fast again and higher,
    as in the published figures. fixed: 48 kHz. Of the prompt 77 tokens are read, and the network knows English only.
    """

    name = "clap"
    title = "CLAP score"
    version = 2
    figures = (Figure("clap", "CLAP", better="higher", chance=0.0),)
    source = "Wu et al., 2023, 630k-audioset-fusion-best, as MOVA's evaluation code uses it"

    @property
    def needs(self) -> Requirements:
        return Requirements(weights=(CLAP, ROBERTA_TOKENIZER), sound=True, prompt=True)

    @property
    def notes(self) -> tuple[str, ...]:
        if self.setup.profile == "compat":
            return ("the sound is heard at one and a half times its speed, as in the published figures",)
        return ()

    @cached_property
    def network(self) -> Clap:
        from phonofilm.evaluation.networks.clap import Clap, clap_tensors
        from phonofilm.evaluation.networks.published import load_network, read_published

        file = find_weights(CLAP, self.setup.weights)
        return load_network(Clap, clap_tensors(read_published(file, "state_dict")), file, self.setup.device)

    @cached_property
    def tokenizer(self) -> Any:
        """RoBERTa's, a `tokenizers.Tokenizer`."""
        from tokenizers import Tokenizer

        file = find_weights(ROBERTA_TOKENIZER, self.setup.weights)
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:
            raise CheckpointError(f"{file} is no tokenizer: {error}") from error

    def measure(self, clip: ClipFacts) -> Row:
        import torch

        if clip.item is None:
            return not_applicable("the clip has no prompt")
        wave = stereo_mean(clip, COMPAT_RATE if self.setup.profile == "compat" else RATE)
        if np.abs(wave).max(initial=0.0) < SILENT_PEAK:
            return not_applicable("the sound is silent")
        with torch.inference_mode():
            sound, (text, tokens) = self._embed_sound(wave), self._embed_text(clip.item.prompt)
            score = torch.nn.functional.cosine_similarity(sound, text, dim=1, eps=1e-8)[0]
        return measured({"clap": float(score)}, {"prompt_tokens": tokens, "prompt_cut": tokens > self._text_tokens})

    def _embed_sound(self, wave: NDArray[np.float32]) -> Any:
        import torch

        from phonofilm.evaluation.features.clap_windows import clap_windows

        levels, longer = clap_windows(torch.from_numpy(sixteen_bits(wave)))
        return self.network.embed_sound(levels[None].to(self.setup.device), longer)

    @property
    def _text_tokens(self) -> int:
        from phonofilm.evaluation.networks.clap import TEXT_TOKENS

        return TEXT_TOKENS

    def _embed_text(self, text: str) -> tuple[Any, int]:
        """(the embedding, how many tokens the whole text has)."""
        import torch

        length, tokenizer = self._text_tokens, self.tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        whole = len(tokenizer.encode(text).ids)
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(PADDING), pad_token=PADDING)
        encoded = tokenizer.encode(text)
        ids, mask = (torch.tensor([part], device=self.setup.device) for part in (encoded.ids, encoded.attention_mask))
        return self.network.embed_text(ids, mask), whole


def sixteen_bits(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The wave at a peak of -1 dB, as 16-bit numbers hold it."""
    loud = wave * np.float32(PEAK / np.abs(wave).max())
    whole: NDArray[np.int16] = (np.clip(loud, -1.0, 1.0) * 32767.0).astype(np.int16)
    return whole.astype(np.float32) / np.float32(32767.0)
