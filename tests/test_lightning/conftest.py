"""One tiny space, one architecture and the digits serve all tests here."""

from __future__ import annotations

import pytest

from lightning_modules import DigitsDataModule
from nas_plugins import Architecture, SearchSpace
from nas_plugins.spaces import load


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return load("nas_bench_201", channels=4, num_cells=1)


@pytest.fixture(scope="session")
def architecture(space: SearchSpace) -> Architecture:
    edges = ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
    operations = ("nor_conv_3x3", "skip_connect", "none", "nor_conv_1x1", "avg_pool_3x3", "none")
    return Architecture({f"cell/{e}": o for e, o in zip(edges, operations, strict=True)})


@pytest.fixture(scope="session")
def digits() -> DigitsDataModule:
    return DigitsDataModule()
