"""A space of this package as a model space of ``nni.nas``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.nni.mutables import mutable_of
from nas_plugins.nni.search_space import read_choices
from nas_plugins.space import SearchSpace

__all__ = ["ArchitectureModelSpace", "sample_of"]


class ArchitectureModelSpace(ModelSpace):
    """Hands a :class:`SearchSpace` to a ``NasExperiment``, for any strategy of NNI.

    Its mutables mirror the decisions. NNI has no conditions, so its own strategies choose
    at inactive decisions too, which are dropped; :class:`ArchitectureStrategy` knows better.
    A frozen model is the architecture's child, the plain network.

    Args:
        space: Name for :func:`nas_plugins.spaces.load`; or a space, which only an engine in
            this process can use, since a training service starts others.
        options: For a space given by name.

    Raises:
        UnsupportedSpaceError: The space has no network.
    """

    def __init__(self, space: str | SearchSpace, **options: Any) -> None:
        super().__init__()
        self.search_space = load_space(space, **options)
        self.search_space._need_network()
        for decision in self.search_space.decisions.values():
            self.add_mutable(mutable_of(decision))

    @classmethod
    def create_fixed_module(
        cls, sample: Mapping[str, Any], space: str | SearchSpace, **options: Any
    ) -> nn.Module:
        """The child, without a model space around it."""
        return child(load_space(space, **options), sample)

    def freeze(self, sample: Mapping[str, Any]) -> nn.Module:
        """The child of a sample."""
        return child(self.search_space, sample)

    def architecture(self, sample: Mapping[str, Any]) -> Architecture:
        """The architecture of a sample of NNI's, say of ``export_top_models``."""
        return read_choices(self.search_space, sample)


def sample_of(space: SearchSpace, architecture: Mapping[str, Choice]) -> dict[str, Choice]:
    """NNI's sample of an architecture: inactive decisions, which NNI has not, at their default."""
    return {label: architecture.get(label, d.default) for label, d in space.decisions.items()}


def load_space(space: str | SearchSpace, **options: Any) -> SearchSpace:
    """The space, or the one of this name."""
    if isinstance(space, SearchSpace):
        return space
    from nas_plugins.spaces import load

    return load(space, **options)


def child(space: SearchSpace, sample: Mapping[str, Any]) -> nn.Module:
    """Build the architecture that a sample holds."""
    return space.build(read_choices(space, sample))
