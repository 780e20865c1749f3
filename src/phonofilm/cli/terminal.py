"""Text for a terminal that comes from files: without the control characters that would move its cursor or change its state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from phonofilm.untrusted import CONTROLS, printable

if TYPE_CHECKING:
    from rich.text import Text


def cell(text: object, style: str = "") -> Text:
    """A cell or line for rich that is printed as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(str(text)), style=style)


def json_text(value: Any) -> str:
    """Indented JSON that a terminal shows as it is."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
