"""Random crop, mirroring and cutout of whole batches, on the device they are on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """The usual augmentation of CIFAR, each image drawn for itself.

    Pad and crop, mirror: He et al. 2016, section 4.2. Cutout: DeVries & Taylor 2017,
    arXiv:1708.04552; the square's centre is uniform over the image, its parts outside cut.

    Attributes:
        crop_padding: Pixels of black around the image before it is cropped back.
        flip: Whether half of the images are mirrored.
        cutout: Side of the square set to the mean, as a share of the image's longer side.

    Raises:
        ValueError: A field is out of its range.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding is {self.crop_padding}; expected at least 0")
        if not 0 <= self.cutout < 1:
            raise ValueError(f"cutout is {self.cutout}; expected a share of the side in [0, 1)")

    def __bool__(self) -> bool:
        return bool(self.crop_padding or self.flip or self.cutout)

    def __call__(self, images: Tensor, generator: torch.Generator, black: Tensor) -> Tensor:
        """Augment normalised images.

        Args:
            images: Shape ``(batch, channels, height, width)``, mean zero.
            generator: On the CPU; all randomness comes from it.
            black: What black is after normalisation, shape ``(channels or 1, 1, 1)``.
        """
        if self.crop_padding:
            images = self._crop(images, generator, black)
        if self.flip:
            mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        if self.cutout:
            images = self._cut(images, generator)
        return images

    def _crop(self, images: Tensor, generator: torch.Generator, black: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        padded = F.pad(images - black, [self.crop_padding] * 4) + black
        shifts = torch.randint(2 * self.crop_padding + 1, (2, batch, 1), generator=generator)
        down, right = shifts.to(images.device)
        rows = down + torch.arange(height, device=images.device)  # (batch, height)
        columns = right + torch.arange(width, device=images.device)  # (batch, width)
        index = torch.arange(batch, device=images.device)[:, None, None]
        # Advanced indices around a slice put the channels last.
        return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def _cut(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, _, height, width = images.shape
        length = max(1, round(self.cutout * max(height, width)))
        centres = torch.rand(2, batch, 1, generator=generator).to(images.device)

        def inside(centre: Tensor, side: int) -> Tensor:  # (batch, side)
            start = (centre * side).long() - length // 2
            place = torch.arange(side, device=images.device)
            return (place >= start) & (place < start + length)

        rows, columns = inside(centres[0], height), inside(centres[1], width)
        return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)
