"""How many ranks share what: evaluations of a step, rotating keys and values, attention heads. Arithmetic only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phonofilm.errors import InputError


@dataclass(frozen=True)
class Degrees:
    """The axes of the mesh. Ranks are numbered with `ulysses` fastest, then `ring`, then `cfg`.

    `cfg`: groups of ranks that take other evaluations of a step or, in training, other clips.
    """

    cfg: int = 1
    ring: int = 1
    ulysses: int = 1

    @property
    def world(self) -> int:
        return self.cfg * self.ring * self.ulysses

    @property
    def sequence(self) -> int:
        """Ranks that share the tokens of one evaluation."""
        return self.ring * self.ulysses

    def __str__(self) -> str:
        return f"cfg {self.cfg} x ring {self.ring} x ulysses {self.ulysses}"


def choose_degrees(
    world: int, heads: int, *, ulysses: int | None = None, ring: int | None = None, cfg_parallel: bool = False
) -> Degrees:
    """The mesh for `world` ranks and a video tower of `heads` heads; what is not given is chosen, Ulysses before ring.

    `cfg_parallel`: half of the ranks takes every other evaluation of a step. Raises InputError, naming what would work.
    """
    for name, degree in (("number of devices", world), ("ulysses degree", ulysses), ("ring degree", ring)):
        if degree is not None and degree < 1:
            raise InputError(f"{name} {degree} is less than 1")
    if cfg_parallel and world % 2:
        raise InputError(
            f"cfg-parallel splits evaluations over two halves, and {world} devices have none; use an even number"
        )
    cfg = 2 if cfg_parallel else 1
    share = world // cfg
    if ulysses is None:
        ulysses = math.gcd(share, heads) if ring is None else share // ring
    if ring is None:
        ring = share // ulysses
    degrees = Degrees(cfg, max(1, ring), max(1, ulysses))
    if degrees.world != world:
        raise InputError(
            f"ulysses degree {degrees.ulysses} x ring degree {degrees.ring}{' x cfg 2' if cfg_parallel else ''} makes "
            f"{degrees.world} devices, and there are {world}; {_what_works(share, heads)}"
        )
    if heads % degrees.ulysses:
        raise InputError(
            f"{heads} heads cannot be divided evenly over ulysses degree {degrees.ulysses}; {_what_works(share, heads)}"
        )
    return degrees


def _what_works(share: int, heads: int) -> str:
    pairs = [(u, share // u) for u in range(share, 0, -1) if share % u == 0 and heads % u == 0]
    return "use " + " or ".join(f"ulysses {u} with ring {r}" for u, r in pairs)
