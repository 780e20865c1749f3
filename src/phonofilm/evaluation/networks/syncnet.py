"""SyncNet (Chung and Zisserman, "Out of time", 2016): five frames of a face and 0.2 s of sound as points in one space.

Names and shapes are those of syncnet_v2.model. b: windows.
"""

from __future__ import annotations

from torch import Tensor, nn

EMBEDDING = 1024
WINDOW_FRAMES = 5
WINDOW_STEPS = 20  # of 10 ms
FACE_PIXELS = 224


class SyncNet(nn.Module):
    """A tower for faces (netcnnlip, netfclip) and one for sound (netcnnaud, netfcaud)."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_layer(nn.Conv2d(1, 64, 3, padding=1)),
            nn.MaxPool2d(1, 1),
            *_layer(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, (1, 2)),
            *_layer(nn.Conv2d(192, 384, 3, padding=1)),
            *_layer(nn.Conv2d(384, 256, 3, padding=1)),
            *_layer(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, 2),
            *_layer(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_layer(nn.Conv3d(3, 96, (WINDOW_FRAMES, 7, 7), stride=(1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_layer(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_layer(nn.Conv3d(256, 512, (1, 6, 6))),
        )

    def embed_faces(self, faces: Tensor) -> Tensor:
        """[b, 3, 5, 224, 224], blue green red from 0 to 255 -> [b, 1024]."""
        out: Tensor = self.netfclip(self.netcnnlip(faces).flatten(1))
        return out

    def embed_sound(self, coefficients: Tensor) -> Tensor:
        """Mel-frequency cepstral coefficients [b, 1, 13, 20] -> [b, 1024]."""
        out: Tensor = self.netfcaud(self.netcnnaud(coefficients).flatten(1))
        return out


def _layer(convolution: nn.Conv2d | nn.Conv3d) -> tuple[nn.Module, nn.Module, nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return convolution, norm(convolution.out_channels), nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING))
