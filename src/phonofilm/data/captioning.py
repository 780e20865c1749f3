"""Captions for a whole data set: what has none is captioned, several at a time, each written as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from phonofilm.data.describe import Captioner
from phonofilm.data.endpoint import Hopeless
from phonofilm.data.manifest import Item, sidecar
from phonofilm.data.request_pace import Stopped
from phonofilm.errors import PhonofilmError
from phonofilm.files import replacing


@dataclass(frozen=True)
class Captioned:
    """What became of one clip: its caption is written, or why it is not."""

    item: Item
    caption: str | None
    failure: str | None = None


def without_caption(items: Sequence[Item]) -> list[Item]:
    """The items that have no caption yet, each text file once."""
    return list({sidecar(item): item for item in items if not item.caption}.values())


def caption_all(items: Sequence[Item], captioner: Captioner, concurrency: int = 4) -> Iterator[Captioned]:
    """Caption these items and write each caption into its text file; yields them as they are done, in any order.

    A clip that fails is yielded with its reason and the others go on. Raises Hopeless at once for what no clip can
    survive, such as a wrong key. Closed or interrupted, what was asked already is not waited for longer than its answer.
    """
    with ThreadPoolExecutor(concurrency) as threads:
        running = [threads.submit(_one, item, captioner) for item in items]
        try:
            for done in as_completed(running):
                yield done.result()
        except BaseException:
            captioner.endpoint.pace.stop()
            for future in running:
                future.cancel()
            raise


def _one(item: Item, captioner: Captioner) -> Captioned:
    try:
        caption = captioner.caption(item)
    except (Hopeless, Stopped):
        raise
    except PhonofilmError as error:
        return Captioned(item, None, str(error))
    with replacing(sidecar(item)) as temporary:
        temporary.write_text(caption + "\n", encoding="utf-8")
    return Captioned(item, caption)
