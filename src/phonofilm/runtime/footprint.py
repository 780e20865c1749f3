"""What a model weighs and what a forward needs beside the weights, in bytes, from shapes alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from phonofilm.models.joint import TEXT_LENGTH, JointDenoiser
from phonofilm.models.quantized import is_stored
from phonofilm.runtime.layer_groups import text_parameters
from phonofilm.runtime.ring import SLOTS
from phonofilm.runtime.staging import PIECES

WORKING_WIDTHS = 9.6
"""Peak live bytes of one forward, in units of one state (video tokens x width): counted, see docs/performance.md."""


FRAGMENTATION = 0.05
"""Of what comes and goes, how much more the allocator holds: an assumption. Weights and slots are whole blocks of their own."""
DECODER_VALUES = 5065
TILE_PIXELS = 256 * 256
DECODED_BYTES = 30
"""The picture's decoder (the released one, of base width 96): values alive per pixel of a frame while one latent frame is
decoded, counted at the true shapes; the tile it decodes at most at once; and bytes per pixel of all frames that are alive
while they are put together and turned into float32."""
DECODER_WIDTH = 96


def decoding_bytes(pixels: int, frames: int, itemsize: int, width: int = DECODER_WIDTH, *, tiled: bool = False) -> int:
    """Peak bytes of decoding a clip beside the decoder's weights. pixels: of one frame. width: the decoder's base_dim."""
    at_once = min(pixels, TILE_PIXELS) if tiled else pixels
    return at_once * DECODER_VALUES * itemsize * width // DECODER_WIDTH + DECODED_BYTES * pixels * frames


TEXT_WIDTHS = 23
"""Peak live bytes of the text encoder over a full prompt, in units of one state (text positions x width): counted."""


@dataclass(frozen=True)
class TextBlocks:
    """Bytes that say what streaming a text encoder takes: its largest block, the largest tensor of a block, and one
    position of the text between two blocks. All 0: there is none to stream."""

    block: int = 0
    tensor: int = 0
    position: int = 0

    @property
    def device(self) -> int:
        """Bytes on the device while a prompt is read."""
        return SLOTS * self.block + TEXT_WIDTHS * TEXT_LENGTH * self.position

    @property
    def host(self) -> int:
        """Bytes of pinned memory meanwhile."""
        return PIECES * self.tensor


@dataclass(frozen=True)
class Footprint:
    """Bytes of a model's weights.

    Attributes:
        own_layers: of each fused layer, what belongs to one expert.
        shared_layers: of each fused layer, what the experts share (audio tower and bridge).
        own_around: what surrounds the layers of one expert: embeddings and head.
        shared_around: what surrounds the layers of the audio tower and bridge.
        text_encoder, decoders: the components outside the denoiser; decoders are both VAEs.
        state_bytes_per_token: of one video token between two layers.
        text_blocks: of the text encoder, for when it is streamed.
        text_layers: of each fused layer, the part that only makes the prompts' keys and values.
        kept_text: of one prompt's keys and values in all layers.
    """

    own_layers: tuple[int, ...]
    shared_layers: tuple[int, ...]
    own_around: int
    shared_around: int
    experts: int
    text_encoder: int
    decoders: int
    state_bytes_per_token: int
    text_blocks: TextBlocks
    text_layers: tuple[int, ...] = ()
    kept_text: int = 0

    @classmethod
    def of(
        cls,
        denoiser: JointDenoiser,
        experts: int,
        text_encoder: int,
        decoders: int,
        itemsize: int,
        text_blocks: TextBlocks,
    ) -> Footprint:
        """`denoiser`: one expert with what it shares, on any device (meta is enough). itemsize: bytes of a weight."""
        own, shared, text = [], [], []
        for index in range(denoiser.num_layers):
            text.append(_bytes_of(text_parameters(denoiser.layer_modules(index)), itemsize))
            sizes = [_nbytes(module, itemsize) for module in denoiser.layer_modules(index)]
            own.append(sizes[0])
            shared.append(sum(sizes[1:]))
        expert = _nbytes(denoiser.video, itemsize)
        whole = _nbytes(denoiser, itemsize)
        towers = (denoiser.video, denoiser.audio)
        return cls(
            tuple(own),
            tuple(shared),
            expert - sum(own),
            whole - expert - sum(shared),
            experts,
            text_encoder,
            decoders,
            int(denoiser.video.config["dim"]) * itemsize,
            text_blocks,
            tuple(text),
            sum(2 * TEXT_LENGTH * int(tower.config["dim"]) * itemsize * len(tower.blocks) for tower in towers),
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Bytes that one expert's forward needs for each fused layer."""
        return tuple(own + shared for own, shared in zip(self.own_layers, self.shared_layers, strict=True))

    @property
    def around(self) -> int:
        """Bytes around the layers, of all experts."""
        return self.experts * self.own_around + self.shared_around

    @property
    def active(self) -> int:
        """Bytes that act in one forward."""
        return sum(self.layers) + self.own_around + self.shared_around

    @property
    def total(self) -> int:
        layers = self.experts * sum(self.own_layers) + sum(self.shared_layers)
        return layers + self.around + self.text_encoder + self.decoders

    def resident(self, index: int) -> int:
        """Bytes that keeping layer `index` of every expert on the device takes."""
        return self.experts * self.own_layers[index] + self.shared_layers[index]

    def working(self, video_tokens: int, evaluations: int) -> int:
        """Peak bytes of one step beside the weights. Evaluations that go layer by layer keep a state each."""
        return int(video_tokens * self.state_bytes_per_token * (WORKING_WIDTHS + evaluations - 1))


def reserved_for(working: int) -> int:
    """Bytes that the allocator reserves for tensors of at most `working` bytes that come and go: it leaves gaps."""
    return int(working * (1 + FRAGMENTATION))


def _nbytes(module: nn.Module, itemsize: int) -> int:
    """Bytes of a module's weights when loaded with `itemsize` bytes a value; quantised ones stay as they are stored."""
    return _bytes_of(module.parameters(), itemsize)


def _bytes_of(parameters: Iterable[nn.Parameter], itemsize: int) -> int:
    return sum(p.numel() * (p.dtype.itemsize if is_stored(p) else itemsize) for p in parameters)
