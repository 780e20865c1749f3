"""A voice as a point (Wan et al., "Generalized end-to-end loss for speaker verification", 2018): one speaker, one place.

Names and shapes are those of resemblyzer's pretrained.pt. b: windows, t: steps of 10 ms.
"""

from __future__ import annotations

from torch import Tensor, nn

BANDS = 40
WIDTH = 256
WINDOW_STEPS = 160


class SpeakerEncoder(nn.Module):
    """Three layers of LSTM over mel powers; the last state, through one layer, on the unit sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, num_layers=3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels: Tensor) -> Tensor:
        """[b, t, 40] -> [b, 256] of length 1. Windows of 160 steps are what it was trained on."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)
