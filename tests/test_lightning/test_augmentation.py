"""Augmentation: each result is one that the definition allows, all of them occur."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.augmentation import Augmentation

NO_BLACK = torch.zeros(1, 1, 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_crops_are_windows_of_the_padded_image_and_all_occur():
    image, black = torch.rand(2, 5, 6), torch.tensor([-1.0, -2.0])[:, None, None]
    padded = F.pad(image - black, [1] * 4) + black
    windows = [padded[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)]
    crops = Augmentation(crop_padding=1)(image.expand(200, -1, -1, -1), generator(), black)
    assert crops.shape == (200, 2, 5, 6)
    seen = {next(i for i, w in enumerate(windows) if torch.equal(w, crop)) for crop in crops}
    assert seen == set(range(9))


def test_half_of_the_images_are_mirrored():
    image = torch.rand(1, 4, 4)
    flipped = Augmentation(flip=True)(image.expand(400, -1, -1, -1), generator(), NO_BLACK)
    mirrored = [torch.equal(i, image.flip(2)) for i in flipped]
    assert all(m or torch.equal(i, image) for m, i in zip(mirrored, flipped, strict=True))
    assert 150 < sum(mirrored) < 250


def test_cutout_has_the_length_of_darts():
    ones = torch.ones(500, 3, 32, 32)
    holes = Augmentation(cutout=0.5)(ones, generator(), NO_BLACK) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), heights * widths)  # rectangles
    assert heights.max() == widths.max() == 16
    assert heights.min() >= 8  # the centre is inside the image
    assert torch.any(heights < 16)


def test_same_generator_same_images():
    images = torch.rand(8, 3, 16, 16)
    augment = Augmentation(crop_padding=2, flip=True, cutout=0.5)
    first, again, other = (augment(images, generator(s), NO_BLACK) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("options", [{"cutout": 1.0}, {"cutout": -0.1}, {"crop_padding": -1}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Augmentation(**options)
