"""Cnn14 of PANNs (Kong et al., 2020) at 32 kHz: how much of each of AudioSet's 527 classes is heard in a clip.

Names and shapes are those of Cnn14_mAP=0.431.pth; its spectrogram is part of the file. b: clips, t: frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SAMPLING_RATE = 32_000
CLASSES = 527
FFT_SIZE = 1024
HOP = 320
BANDS = 64
CHANNELS = (64, 128, 256, 512, 1024, 2048)


class Cnn14(nn.Module):
    """Six blocks of two convolutions over a log mel spectrogram, pooled over time by mean plus maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram_extractor = _Spectrogram()
        self.logmel_extractor = _MelBands()
        self.bn0 = nn.BatchNorm2d(BANDS)
        for index, (inner, outer) in enumerate(zip((1, *CHANNELS), CHANNELS, strict=False), 1):
            self.add_module(f"conv_block{index}", _ConvBlock(inner, outer))
        self.fc1 = nn.Linear(CHANNELS[-1], CHANNELS[-1])
        self.fc_audioset = nn.Linear(CHANNELS[-1], CLASSES)

    def forward(self, wave: Tensor) -> Tensor:
        """[b, samples] at 32 kHz -> probabilities [b, 527], each class on its own."""
        return self.logits(wave).sigmoid()

    def logits(self, wave: Tensor) -> Tensor:
        """The same before the sigmoid."""
        bands = self.logmel_extractor(self.spectrogram_extractor(wave))  # [b, 1, t, 64]
        out: Tensor = self.bn0(bands.transpose(1, 3)).transpose(1, 3)
        for index in range(1, len(CHANNELS) + 1):
            out = self.get_submodule(f"conv_block{index}")(out)
            if index < len(CHANNELS):
                out = functional.avg_pool2d(out, 2)
        over_time = out.mean(3)
        pooled = over_time.amax(2) + over_time.mean(2)
        return self.fc_audioset(self.fc1(pooled).relu())  # type: ignore[no-any-return]


class _ConvBlock(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.bn2 = nn.BatchNorm2d(outer)

    def forward(self, features: Tensor) -> Tensor:
        middle = self.bn1(self.conv1(features)).relu()
        return self.bn2(self.conv2(middle)).relu()  # type: ignore[no-any-return]


class _Spectrogram(nn.Module):
    """The power spectrum by a Fourier transform that is stored as two convolutions, window included."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.ModuleDict(
            {
                name: nn.Conv1d(1, FFT_SIZE // 2 + 1, FFT_SIZE, stride=HOP, bias=False)
                for name in ("conv_real", "conv_imag")
            }
        )

    def forward(self, wave: Tensor) -> Tensor:
        """[b, samples] -> [b, 1, t, 513]."""
        padded = functional.pad(wave[:, None], (FFT_SIZE // 2, FFT_SIZE // 2), mode="reflect")
        power: Tensor = self.stft["conv_real"](padded) ** 2 + self.stft["conv_imag"](padded) ** 2
        return power[:, None].transpose(2, 3)


class _MelBands(nn.Module):
    """Decibels in 64 bands from 50 Hz to 14 kHz, none below -100."""

    def __init__(self) -> None:
        super().__init__()
        self.melW = nn.Parameter(torch.empty(FFT_SIZE // 2 + 1, BANDS), requires_grad=False)

    def forward(self, power: Tensor) -> Tensor:
        """[b, 1, t, 513] -> [b, 1, t, 64]."""
        return 10.0 * torch.matmul(power, self.melW).clamp(min=1e-10).log10()
