"""Where a run's numbers and clips can be watched besides `metrics.csv`: TensorBoard and Weights & Biases, both optional."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from phonofilm.errors import MissingExtraError
from phonofilm.media.clip import Clip
from phonofilm.media.gif import write_gif
from phonofilm.media.write import save_clip

WandbMode = Literal["off", "offline", "online"]


class Board(Protocol):
    """Shows a run somewhere."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None: ...

    def clip(self, step: int, name: str, clip: Clip) -> None:
        """A sample, with its sound."""

    def close(self) -> None: ...


def open_boards(folder: Path, step: int, tensorboard: bool, wandb: WandbMode) -> list[Board]:
    """The boards that are switched on, for a run that begins or goes on at `step`. Raises MissingExtraError."""
    boards: list[Board] = []
    if tensorboard:
        boards.append(TensorBoard(folder / "tensorboard", step))
    if wandb != "off":
        boards.append(WeightsAndBiases(folder, wandb))
    return boards


class TensorBoard:
    """Scalars, samples as moving pictures (GIF, which is what its image tab plays) and their sound."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "train") from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def clip(self, step: int, name: str, clip: Clip) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=clip.height, width=clip.width, colorspace=3, encoded_image_string=_gif_bytes(clip))
        # torch's own add_video would want moviepy for the same GIF.
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        if clip.audio is not None and clip.sampling_rate is not None:
            mono = np.clip(clip.audio.mean(0), -1, 1)
            self._writer.add_audio(name, mono, step, sample_rate=clip.sampling_rate)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """One W&B run per run folder, in `FOLDER/wandb`. Offline, nothing leaves the machine; `wandb sync` sends it later."""

    def __init__(self, folder: Path, mode: Literal["offline", "online"]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError("wandb", "wandb") from error
        self._wandb: Any = wandb
        name = folder.resolve().name
        identity = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        settings = wandb.Settings(silent=True)
        self._run: Any = wandb.init(
            project="phonofilm", name=name, id=identity, dir=str(folder), mode=mode, resume="allow", settings=settings
        )
        # The files of samples stay until the run is closed: W&B reads them when it likes.
        self._files = tempfile.TemporaryDirectory(prefix="phonofilm-wandb-")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def clip(self, step: int, name: str, clip: Clip) -> None:
        file = Path(self._files.name) / f"{step:08d}-{name.replace('/', '-')}.mp4"
        save_clip(clip, file)
        self._run.log({name: self._wandb.Video(str(file), format="mp4")}, step=step)

    def close(self) -> None:
        self._run.finish()
        self._files.cleanup()


def _gif_bytes(clip: Clip) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.gif"
        write_gif(clip, path)
        return path.read_bytes()
