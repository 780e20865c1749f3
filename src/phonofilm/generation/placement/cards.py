"""What is known of a graphics card by its name: its speed, and the memory it is sold with."""

from __future__ import annotations

from dataclasses import dataclass

TERA = 1e12


@dataclass(frozen=True)
class Card:
    """A card as it is sold. gigabytes: powers of two. tflops: its maker's dense bfloat16 peak, summed in float32."""

    name: str
    gigabytes: int
    tflops: float

    @property
    def nbytes(self) -> int:
        return self.gigabytes * 2**30


# A name is matched as part of what the driver reports; the longer name first where one holds another.
CARDS = (
    Card("RTX 3060", 12, 25),
    Card("RTX 4060 Ti", 16, 44),
    Card("RTX 4060", 8, 30),
    Card("RTX 4070", 12, 58),
    Card("RTX 4080", 16, 97),
    Card("RTX 3090", 24, 71),
    Card("RTX 4090", 24, 165),
    Card("RTX 5090", 32, 209),
    Card("RTX A6000", 48, 155),
    Card("L40S", 48, 362),
    Card("A100", 80, 312),
    Card("H100 PCIe", 80, 756),
    Card("H100", 80, 989),
    Card("H200", 141, 989),
)
SIZES = (8, 12, 16, 24, 48, 80)
"""Memory that a table of cards shows, GB as sold; the card that stands for each is the slowest one of that size."""


def known_peak(name: str) -> float | None:
    """FLOP/s of a device in dense bfloat16 by its maker's data sheet, or None for one not listed here."""
    return next((card.tflops * TERA for card in CARDS if card.name in name), None)


def card_like(nbytes: int) -> Card:
    """The card that stands for an unknown one of so much memory: the slowest of the next smaller size that is listed."""
    sizes = [card.gigabytes for card in CARDS if card.nbytes <= nbytes * 1.03] or [
        min(card.gigabytes for card in CARDS)
    ]
    return min((card for card in CARDS if card.gigabytes == max(sizes)), key=lambda card: card.tflops)
