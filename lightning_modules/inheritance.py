"""Where a child's first weights come from: a supernet's checkpoint, or a child's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.inheritance import Inherited, inherit, nearest
from nas_plugins.rebuild import CheckpointError, read_tensors
from nas_plugins.space import SearchSpace

__all__ = [
    "ARCHITECTURE_FILE",
    "NearestChild",
    "Parent",
    "digest",
    "epochs_of",
    "inherit_from",
    "weights_in",
]

Parent = Union[str, Path, Callable[[Architecture], Union[str, Path, None]]]
"""A checkpoint, or a function from an architecture to one, or to ``None`` for no parent."""

ARCHITECTURE_FILE = "architecture.json"


@dataclass(frozen=True)
class NearestChild:
    """The checkpoint of the trained child that differs at the fewest decisions.

    A :data:`Parent` that every host can have, since the directory of ``train_child`` is the
    history; see :func:`nas_plugins.estimators.inheritance.nearest` for why the nearest. Of
    one architecture the longest training counts.

    Args:
        directory: Where children were trained, or a folder above.
    """

    directory: str | Path

    def __call__(self, architecture: Mapping[str, Choice]) -> Path | None:
        homes: dict[Architecture, dict[int, Path]] = {}
        for file in sorted(Path(self.directory).rglob(ARCHITECTURE_FILE)):
            trained = epochs_of(file.parent)
            if trained:
                known = homes.setdefault(Architecture.from_json(file), trained)
                known.update({e: path for e, path in trained.items() if e not in known})
        parent = nearest(architecture, homes)
        return None if parent is None else homes[parent][max(homes[parent])]


def weights_in(
    checkpoint: str | Path, space: SearchSpace, architecture: Mapping[str, Choice]
) -> dict[str, Tensor]:
    """Weights that a checkpoint has for an architecture's child, by the child's own keys.

    Of a :class:`~lightning_modules.SupernetClassifier` those of the architecture's path, of
    a :class:`~lightning_modules.ChildClassifier` all. Nothing in the file is unpickled.

    Raises:
        CheckpointError: The file is damaged, or of neither class.
        ArchitectureError: The supernet has no such path.
        UnsupportedSpaceError: The supernet's paths are no children.
    """
    content = read_tensors(checkpoint)
    saved = content.get("hyper_parameters", {})
    if "mutator" in saved:
        from lightning_modules.supernet import SupernetClassifier

        with torch.random.fork_rng(devices=[]):
            module = SupernetClassifier.load_from_checkpoint(checkpoint, network=space)
        if not module.search.mutator.inherits_weights:
            raise UnsupportedSpaceError(
                f"{type(module.search.mutator).__name__} changes the supernet's paths, so that "
                f"no child can take its weights from {checkpoint}"
            )
        return module.supernet.path_state_dict(architecture)
    if "architecture" in saved:
        prefix = "network."
        state = content["state_dict"].items()
        return {k.removeprefix(prefix): v for k, v in state if k.startswith(prefix)}
    raise CheckpointError(
        f"{checkpoint} has no weights to inherit; expected a checkpoint of SupernetClassifier "
        "or ChildClassifier"
    )


def inherit_from(
    checkpoint: str | Path,
    network: nn.Module,
    space: SearchSpace,
    architecture: Mapping[str, Choice],
) -> Inherited:
    """Copy what a checkpoint has for a child into it.

    Raises:
        CheckpointError: As :func:`weights_in`, or nothing of it fits.
    """
    found = inherit(network, weights_in(checkpoint, space, architecture))
    if not found.copied:
        raise CheckpointError(
            f"nothing in {checkpoint} fits the child of architecture "
            f"{Architecture(architecture).id}: {len(found.reshaped)} shapes differ (another "
            f"width?) and {len(found.fresh)} keys are missing (another space?)"
        )
    return found


def digest(network: nn.Module, keys: tuple[str, ...]) -> str:
    """Hexadecimal digits for the values of a network's tensors."""
    state, text = network.state_dict(), hashlib.sha256()
    for key in keys:
        text.update(key.encode())
        text.update(state[key].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return text.hexdigest()


def epochs_of(home: Path) -> dict[int, Path]:
    """Epochs to the checkpoint of a training of one child that was to have so many."""
    files = home.glob("epochs_*.ckpt")
    matches = ((re.fullmatch(r"epochs_(\d+)\.ckpt", path.name), path) for path in files)
    return {int(match[1]): path for match, path in matches if match}
