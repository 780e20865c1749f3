"""S3FD (Zhang et al., 2017): a VGG that says at six scales where faces may be. Choosing among the boxes is in face_boxes.

Names and shapes are those of sfd_face.pth. b: pictures, n: boxes over all scales.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Sizes of the boxes and distances between them at the six scales, pixels.
BOX_SIDES = (16, 32, 64, 128, 256, 512)
STRIDES = (4, 8, 16, 32, 64, 128)
_POOL, _POOL_UP = "pool", "pool rounding up"
_VGG: tuple[int | str, ...] = (
    *(64, 64, _POOL, 128, 128, _POOL, 256, 256, 256, _POOL_UP),
    *(512, 512, 512, _POOL, 512, 512, 512, _POOL),
)
# The layers after which the first four scales are read: relu3_3, relu4_3, relu5_3, fc7.
_TAPS = (15, 22, 29, 34)
_WIDTHS = (256, 512, 512, 1024, 512, 256)


class S3FD(nn.Module):
    """For every place at every scale: where a face's box would be, and how probable a face is."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = nn.ModuleList(_vgg_layers())
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = _ScaledNorm(256), _ScaledNorm(512), _ScaledNorm(512)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, stride=2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, stride=2, padding=1),
            ]
        )
        self.loc = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in _WIDTHS)
        # The finest scale has three scores for "no face", of which the highest counts.
        self.conf = nn.ModuleList(
            nn.Conv2d(width, 4 if scale == 0 else 2, 3, padding=1) for scale, width in enumerate(_WIDTHS)
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[b, 3, h, w], red green blue minus (123, 117, 104) -> boxes [b, n, 4] and their probability [b, n].

        Boxes are left, top, right, bottom as shares of the width and the height.
        """
        places, chances, priors = [], [], []
        size = (pictures.shape[2], pictures.shape[3])
        for scale, features in enumerate(self._scales(pictures)):
            scores = self.conf[scale](features)
            if scale == 0:
                scores = torch.cat([scores[:, :3].amax(1, keepdim=True), scores[:, 3:]], 1)
            chances.append(scores.permute(0, 2, 3, 1).flatten(1, 2).softmax(-1)[..., 1])
            places.append(self.loc[scale](features).permute(0, 2, 3, 1).flatten(1, 2))
            priors.append(_prior_boxes(features.shape[2], features.shape[3], scale, size).to(pictures))
        return _decoded(torch.cat(places, 1), torch.cat(priors)), torch.cat(chances, 1)

    def _scales(self, pictures: Tensor) -> list[Tensor]:
        scales, features = [], pictures
        norms: dict[int, nn.Module] = dict(zip(_TAPS, (self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3), strict=False))
        for index, layer in enumerate(self.vgg):
            features = layer(features)
            if index in _TAPS:
                scales.append(norms[index](features) if index in norms else features)
        for index, layer in enumerate(self.extras):
            features = layer(features).relu()
            if index % 2:
                scales.append(features)
        return scales


class _ScaledNorm(nn.Module):
    """Each place's features at length 1, times a learnt scale per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))

    def forward(self, features: Tensor) -> Tensor:
        length = features.square().sum(1, keepdim=True).sqrt() + 1e-10
        return self.weight[:, None, None] * (features / length)


def _vgg_layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inner = 3
    for step in _VGG:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=step == _POOL_UP))
        else:
            layers += [nn.Conv2d(inner, step, 3, padding=1), nn.ReLU()]
            inner = step
    return [*layers, nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU()]


def _prior_boxes(rows: int, columns: int, scale: int, size: tuple[int, int]) -> Tensor:
    """[rows * columns, 4]: centre x and y, width, height of the boxes a scale starts from, as shares of the picture's size."""
    height, width = size
    step, side = STRIDES[scale], BOX_SIDES[scale]
    y = (torch.arange(rows, dtype=torch.float64) + 0.5) / (height / step)
    x = (torch.arange(columns, dtype=torch.float64) + 0.5) / (width / step)
    centres = torch.stack([x[None].expand(rows, -1), y[:, None].expand(-1, columns)], -1).flatten(0, 1)
    sides = torch.tensor([side / width, side / height], dtype=torch.float64).expand(rows * columns, 2)
    return torch.cat([centres, sides], 1)


def _decoded(places: Tensor, priors: Tensor) -> Tensor:
    """Offsets in units of the prior boxes -> left, top, right, bottom."""
    centres = priors[:, :2] + places[..., :2] * 0.1 * priors[:, 2:]
    sides = priors[:, 2:] * (places[..., 2:] * 0.2).exp()
    corner = centres - sides / 2
    return torch.cat([corner, sides + corner], -1)
