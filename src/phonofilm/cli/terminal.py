"""Text for a terminal that comes from files: without the control characters that would move its cursor or change its state."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

# C0 without tab and line feed, DEL, C1; then what turns the direction of writing around, and half a character.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with control characters spelt out: ESC is \x1b."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def cell(text: object, style: str = "") -> Text:
    """A cell or line for rich that is printed as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(str(text)), style=style)


def json_text(value: Any) -> str:
    """Indented JSON that a terminal shows as it is."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
