"""What commands print: tables and cells, JSON, and a bar over what is counted. Text from files changes no terminal's state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from phonofilm.untrusted import CONTROLS, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text


def cell(text: object, style: str = "") -> Text:
    """A cell or line for rich that is printed as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(printable(str(text)), style=style)


def console(error: bool = False) -> Console:
    """Standard output, or standard error; what reads it in place of a terminal gets whole lines."""
    from rich.console import Console

    made = Console(stderr=error)
    made.width = made.width if made.is_terminal else 1000
    return made


def table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]], title: object = None) -> Table:
    """Rows under their columns (none: without a header), nothing cut off, and the title, if any, at the left over them."""
    from rich.table import Column, Table

    folded = [Column(name, overflow="fold") for name in columns]
    shown = None if title is None else cell(title)
    made = Table(*folded, title=shown, title_justify="left", title_style="bold", show_header=bool(columns))
    for row in rows:
        made.add_row(*row)
    return made


def json_text(value: Any) -> str:
    """Indented JSON that a terminal shows as it is."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@contextmanager
def counting(what: str = "", *, silent: bool = False) -> Iterator[Callable[..., None]]:
    """Bars on standard error, gone at the end: the yielded function takes done, total, and a name where there are several."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(error=True), transient=True, disable=silent) as bars:
        shown: dict[str, TaskID] = {}

        def count(done: int, total: int, name: str = what) -> None:
            if name not in shown:
                shown[name] = bars.add_task(printable(name), total=total)
            bars.update(shown[name], completed=done, total=total)

        yield count
