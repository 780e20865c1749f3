"""The trigger word stands in every caption that is trained on, once."""

from __future__ import annotations

import pytest

from phonofilm.training.task.trigger_word import has_trigger, with_trigger


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man sings", "zyx, a man sings"),
        ("[VISUAL]: a man. [SPEECH]: none", "[VISUAL]: zyx, a man. [SPEECH]: none"),
        ("a man called zyx sings", "a man called zyx sings"),
        ("zyxes are birds", "zyx, zyxes are birds"),
    ],
)
def test_a_caption_says_the_word_once(caption: str, expected: str) -> None:
    assert with_trigger(caption, "zyx") == expected
    assert with_trigger(expected, "zyx") == expected


def test_a_word_with_signs_is_found() -> None:
    assert has_trigger("by [v], in oil", "[v]")
