"""DNSMOS P.835 (Reddy et al., 2021): what a listener would say of signal, background and the whole of 9.01 s of speech.

Computes what sig_bak_ovr.onnx computes, but what neighbouring windows share only once: they overlap by eight ninths.
b: windows, t: steps of 10 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SIZE, HOP = 320, 160
WINDOW_STEPS, STEP = 900, 100  # a window is 9 s, and one second after the one before
FINE, ALL = 4, 7  # layers before the first pooling, and altogether
QUARTER = 4  # steps that two poolings make into one
ALTERED = 2  # quarters at an end of what is read, that are others where the sound goes on
MARGIN = ALTERED * QUARTER  # steps read beyond each end of a part
EDGE = 2 * MARGIN  # steps read for the altered ones of a window's ends
PART = 300  # steps whose early layers are computed together: of all steps at once they are blocks too large to be kept
AT_A_TIME = 8  # windows that are computed together: what is held at once does not grow with the sound
TINY = 1e-12


class P835:
    """The network of the tensors that sig_bak_ovr.onnx holds, by their names there."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        names = ["conv2d", *(f"conv2d_{number}" for number in range(1, ALL))]
        self._convolutions = [(tensors[f"{name}/kernel:0"], tensors[f"{name}/bias:0"]) for name in names]
        dense = [f"mos_estimator_logpow/{name}" for name in ("dense", "dense_1", "dense_3")]
        self._dense = [
            (tensors[f"{name}/MatMul/ReadVariableOp/resource:0"], tensors[f"{name}/BiasAdd/ReadVariableOp/resource:0"])
            for name in dense
        ]
        self._waves = [tensors[f"time2freq/stft-{part}/kernel:0"][..., 0] for part in ("real", "imag")]

    @torch.inference_mode()
    def score(self, wave: Tensor, seconds: Sequence[int]) -> Tensor:
        """[samples] at 16 kHz -> [b, 3], raw figures of the windows of 9.01 s that begin at these ascending seconds."""
        levels = self._levels(wave)
        groups = [seconds[first : first + AT_A_TIME] for first in range(0, len(seconds), AT_A_TIME)]
        return torch.cat([self._score(levels, [second * STEP for second in group]) for group in groups])

    def _score(self, levels: Tensor, begins: Sequence[int]) -> Tensor:
        """The windows that begin at these steps."""
        windows = len(begins)
        levels = levels[:, :, begins[0] : begins[-1] + WINDOW_STEPS]
        shared = self._early_in_parts(levels)
        starts = [begin - begins[0] for begin in begins]
        ends = [start + WINDOW_STEPS - EDGE for start in starts]
        edges = self._early(torch.cat([levels[:, :, at : at + EDGE] for at in (*starts, *ends)]))
        parts = [
            shared[:, :, start // QUARTER : (start + WINDOW_STEPS) // QUARTER].clone(
                memory_format=torch.contiguous_format
            )
            for start in starts
        ]
        for window, part in enumerate(parts):
            part[0, :, :ALTERED] = edges[window, :, :ALTERED]
            part[0, :, -ALTERED:] = edges[windows + window, :, -ALTERED:]
        return self._late(torch.cat(parts))

    def _levels(self, wave: Tensor) -> Tensor:
        """[samples] -> [1, 1, t, 161]: logarithms of the power at each frequency."""
        frames = wave.unfold(0, SIZE, HOP)
        power = sum((frames @ part.T).square() for part in self._waves)
        return torch.as_tensor(power).clamp(min=TINY).log10()[None, None]

    def _early_in_parts(self, levels: Tensor) -> Tensor:
        """As `_early`: the same values, in less memory."""
        parts = []
        for first in range(0, levels.shape[2], PART):
            begin = max(0, first - MARGIN)
            part = self._early(levels[:, :, begin : first + PART + MARGIN])
            parts.append(part[:, :, (first - begin) // QUARTER :][:, :, : PART // QUARTER])
        return torch.cat(parts, 2)

    def _early(self, levels: Tensor) -> Tensor:
        """[b, 1, t, 161] -> [b, 32, t / 4, 40]."""
        x = levels.to(memory_format=torch.channels_last)
        for number in range(FINE):
            x = self._convolved(x, number)
        return F.max_pool2d(self._convolved(F.max_pool2d(x, 2), FINE), 2)

    def _late(self, x: Tensor) -> Tensor:
        """[b, 32, 225, 40] -> [b, 3]."""
        x = self._convolved(F.max_pool2d(self._convolved(x, FINE + 1), 2), FINE + 2).amax((2, 3))
        for kernel, bias in self._dense[:-1]:
            x = (x @ kernel + bias).relu()
        kernel, bias = self._dense[-1]
        return x @ kernel + bias

    def _convolved(self, x: Tensor, number: int) -> Tensor:
        kernel, bias = self._convolutions[number]
        return F.conv2d(x, kernel, bias, padding=1).relu_()
