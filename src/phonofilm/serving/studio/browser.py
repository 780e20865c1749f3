"""Where the studio's page is: its port, and the browser that shows it."""

from __future__ import annotations

import os
import sys
import webbrowser

from phonofilm.serving.server import is_free

DEFAULT_PORT = 8000


def choose_port(wanted: int | None) -> int:
    """The port that was asked for, else 8000; 0, any that is free, where that one is taken."""
    if wanted is not None:
        return wanted
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else 0


def open_browser(address: str) -> None:
    """Open the page where there is a screen; a browser in the terminal would take it away from the log."""
    has_screen = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if has_screen:
        webbrowser.open(address)
