"""A trained child as files that need less and less of what made it.

===============  ======================  ==================================================
format           file                    needs
===============  ======================  ==================================================
``state_dict``   ``weights.pt``          this package and the network's class
``torchscript``  ``model.torchscript``   PyTorch (``torch.jit.load``)
``program``      ``model.pt2``           PyTorch (``torch.export.load``), as new as the writer's
``onnx``         ``model.onnx``          any ONNX runtime
===============  ======================  ==================================================

Beside them stand ``architecture.json`` and ``network.json``, the network's name and options.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.choices import build
from nas_plugins.errors import NasPluginsError
from nas_plugins.rebuild import CheckpointError, read_tensors, reference, resolve
from nas_plugins.space import SearchSpace

__all__ = ["FORMATS", "ExportError", "export", "load_exported"]


class ExportError(NasPluginsError, RuntimeError):
    """A child cannot be written in the format that was asked for."""


def export(
    space: SearchSpace | Callable[..., nn.Module],
    architecture: Mapping[str, Choice],
    weights: nn.Module | Mapping[str, Tensor],
    directory: str | Path,
    *,
    formats: Sequence[str] = ("state_dict", "torchscript"),
    input_shape: Sequence[int] | None = None,
    **options: Any,
) -> list[Path]:
    """Write an architecture and its weights.

    Args:
        space: Where the architecture is from; or its network alone.
        architecture: A member of the space.
        weights: The trained child, or its state dict.
        directory: Created where absent; files of the same names are replaced.
        formats: Of ``FORMATS``.
        input_shape: ``(channels, height, width)`` that the traced formats see; default
            ``(in_channels, 32, 32)``. The batch size stays free in all of them.
        options: Network options the child was built with that are not the space's own.

    Returns:
        The architecture's file, one per format in their order, and ``network.json``.

    Raises:
        ExportError: No such format, or what it needs is not installed.
        CheckpointError: The weights are not this architecture's.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ExportError(f"format is {unknown[0]!r}; expected some of {list(FORMATS)}")
    architecture = Architecture(architecture)
    with torch.random.fork_rng(devices=[]):  # the weights that a new network draws are replaced
        if isinstance(space, SearchSpace):
            options = {**space.options, **options}
            child = _filled(space.build(architecture, **options), weights)
        else:
            child = _filled(build(space, architecture, options), weights)
    network = space.network if isinstance(space, SearchSpace) else space
    shape = tuple(input_shape or (options.get("in_channels", 3), 32, 32))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    written = [directory / "architecture.json"]
    written[0].write_text(architecture.to_json(indent=2), encoding="utf-8")
    example = torch.zeros(2, *shape)  # one image would be taken for a fixed batch size of 1
    for name in formats:
        file, write = FORMATS[name]
        write(child, example, directory / file)
        written.append(directory / file)
    written.append(directory / "network.json")
    assert network is not None
    facts = {"network": reference(network), "options": options, "input_shape": shape}
    written[-1].write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return written


def load_exported(
    directory: str | Path, *, network: Callable[..., nn.Module] | None = None
) -> nn.Module:
    """Rebuild a child from its architecture, network and ``weights.pt``, in eval mode.

    Args:
        directory: That :func:`export` wrote with format ``state_dict``.
        network: In place of the saved one, where that cannot be imported.

    Raises:
        CheckpointError: A file is missing or damaged, or they do not belong together.
    """
    directory = Path(directory)
    files = [directory / name for name in ("architecture.json", "network.json", "weights.pt")]
    for file in files:
        if not file.is_file():
            raise CheckpointError(
                f"no file {file}; expected a directory that export wrote with format 'state_dict'"
            )
    try:
        architecture = Architecture.from_json(files[0])
    except ValueError as error:
        raise CheckpointError(f"{files[0]} is damaged: {error}") from error
    facts = _facts(files[1])
    if network is None:
        if facts["network"] is None:
            raise CheckpointError(
                f"{files[1]} names no network, because the exported one cannot be imported: give "
                "it again, load_exported(directory, network=...)"
            )
        network = resolve(facts["network"])
    with torch.random.fork_rng(devices=[]):
        child = build(network, architecture, facts["options"])
    return _filled(child, read_tensors(files[2]))


def _facts(file: Path) -> dict[str, Any]:
    """The network's name or ``None``, and its options."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged, no JSON is in it: {error}") from error
    known = isinstance(facts, dict) and isinstance(facts.get("options"), dict)
    if not known or not isinstance(facts.get("network", 0), (str, type(None))):
        raise CheckpointError(
            f"{file} is damaged; expected an object with 'network', a name or null, and "
            "'options', an object"
        )
    return facts


def _filled(child: nn.Module, weights: nn.Module | Mapping[str, Tensor]) -> nn.Module:
    """The child in eval mode, with these weights."""
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    try:
        child.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            "the weights are not those of this architecture's child (is it another "
            f"architecture, or built with other network options?): {error}"
        ) from error
    return child.eval()


# -- formats ----------------------------------------------------------------------------


def _state_dict(child: nn.Module, example: Tensor, path: Path) -> None:
    torch.save(child.state_dict(), path)


def _torchscript(child: nn.Module, example: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # Deprecated in favour of torch.export, but older runtimes read nothing else.
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.jit.save(torch.jit.trace(child, example), str(path))  # type: ignore[no-untyped-call]


def _program(child: nn.Module, example: Tensor, path: Path) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(child, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def _onnx(child: nn.Module, example: Tensor, path: Path) -> None:
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    if importlib.util.find_spec("onnxscript") is not None:
        how: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False}
        how["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    else:  # the older exporter needs no further package, until PyTorch drops it
        how = {"dynamo": False, "dynamic_axes": {"images": {0: "batch"}, "logits": {0: "batch"}}}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            torch.onnx.export(child, (example,), str(path), **names, **how)
    except (ImportError, TypeError) as error:
        raise ExportError(
            f"format 'onnx' cannot be written by this PyTorch as installed ({error}): "
            "pip install onnx onnxscript"
        ) from error


FORMATS: dict[str, tuple[str, Callable[[nn.Module, Tensor, Path], None]]] = {
    "state_dict": ("weights.pt", _state_dict),
    "torchscript": ("model.torchscript", _torchscript),
    "program": ("model.pt2", _program),
    "onnx": ("model.onnx", _onnx),
}
"""Name to file and writer."""
