"""The words of the embedded model, from its own tokenizer, in the groups in which people look for them."""

from __future__ import annotations

from phonofilm.models.checkpoint_files import read_json
from phonofilm.models.hub import PACKAGED_WEIGHTS

GROUPS = {
    "What is seen": "ball face lamp bulb xylophone bars mallet mouth hat bow cartoon someone",
    "Where it is": "wall sky sunset night floor boards plate table stone wooden metal steel",
    "Colours": "red yellow green blue purple pink black grey cream mint pale dark light bright plain coloured",
    "Sizes": "small little medium large big round size sized",
    "What happens": "bounces bouncing hits impact blinks blinking flashes flash lights opens plays played struck stands "
    "wearing making comes",
    "What is heard": "sound beep beeps knocks thuds rings clangs clicks taps tune melody note notes tone sings high middle low "
    "deep soft pitched",
    "What is said": "ah ee eh oo says speaks talking voice voiced vowel",
}
OTHERS = "Words between them"


def known_words() -> list[str]:
    """All words of the tokenizer, sorted, also those that end another one ("-sized") and those that are a vowel."""
    pieces = read_json(PACKAGED_WEIGHTS / "tokenizer" / "tokenizer.json")["model"]["vocab"]
    begin = {piece.removeprefix("▁") for piece, _ in pieces if piece.startswith("▁")}
    # A single letter within a word spells what it does not know.
    within = {piece for piece, _ in pieces if not piece.startswith("▁") and len(piece) > 1}
    return sorted(word for word in begin | within if word.isalpha())


def grouped_words() -> dict[str, list[str]]:
    """The same words by group, in the groups' own order; what is in none comes last."""
    words = known_words()
    groups = {name: [word for word in text.split() if word in words] for name, text in GROUPS.items()}
    grouped = {word for group in groups.values() for word in group}
    return groups | {OTHERS: [word for word in words if word not in grouped]}
