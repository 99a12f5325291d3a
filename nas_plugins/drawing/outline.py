"""What an architecture decided, in the order and nesting in which its network asks.

ConfigSpace keeps decisions sorted by name. A picture wants them as the network has them, so
the outline is one more reading of the same definition: the constructor runs on the meta
device, answered from the architecture, and each question is noted. A space without a network
falls back to natural order and to the conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.decision import INPUT_SEPARATOR
from nas_plugins.space import SearchSpace

__all__ = ["Entry", "natural_key", "outline"]


@dataclass
class Entry:
    """One question and its answer.

    Attributes:
        label: The decision's label; of ``inputs`` over any subset, the common one.
        verb: ``layer``, ``inputs``, ``repeat`` or ``value``.
        choice: What was chosen.
        parent: Label of the decision inside whose candidate it was asked.
        inputs: Of ``inputs``, the names of the connected tensors.
        covers: The labels of the architecture this entry stands for.
        times: How often the network asks for it.
    """

    label: str
    verb: str
    choice: Choice
    parent: str | None
    inputs: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    times: int = 1


def outline(space: SearchSpace, architecture: Architecture) -> list[Entry]:
    """Entries that together cover every decision of the architecture exactly once."""
    entries = _asked(space, architecture) if space.network is not None else {}
    covered = {label for entry in entries.values() for label in entry.covers}
    rest = [label for label in architecture if label not in covered]
    for entry in _from_conditions(space, architecture, sorted(rest, key=natural_key)):
        entries[entry.label] = entry
    return list(entries.values())


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``layer2`` comes before ``layer10``."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p]


def _asked(space: SearchSpace, architecture: Architecture) -> dict[str, Entry]:
    import torch

    from nas_plugins.choices import Builder

    class Outliner(Builder):
        """Builds like its base, and notes each question where it is asked."""

        def __init__(self) -> None:
            super().__init__(architecture)
            self.entries: dict[str, Entry] = {}
            self._inside: list[str] = []

        def _note(self, label: str, verb: str, **details: Any) -> None:
            if label in self.entries:
                self.entries[label].times += 1
                return
            parent = self._inside[-1] if self._inside else None
            details.setdefault("covers", (label,))
            details.setdefault("choice", architecture.get(label, ""))
            self.entries[label] = Entry(label, verb, parent=parent, **details)

        @contextmanager
        def _within(self, label: str) -> Iterator[None]:
            self._inside.append(label)
            try:
                yield
            finally:
                self._inside.pop()

        def _layer(self, label: str, *rest: Any) -> Any:
            self._note(label, "layer")
            with self._within(label):
                return super()._layer(label, *rest)

        def _inputs(
            self, label: str, candidates: Any, num_chosen: Any, required: Any, merge: Any
        ) -> Any:
            if num_chosen is None:
                covers = tuple(f"{label}/{n}" for n in candidates if n not in required)
                chosen = [n for n in candidates if n in required or architecture[f"{label}/{n}"]]
                choice = INPUT_SEPARATOR.join(chosen)
                self._note(label, "inputs", inputs=tuple(chosen), covers=covers, choice=choice)
            else:
                chosen = str(architecture[label]).split(INPUT_SEPARATOR)
                self._note(label, "inputs", inputs=tuple(chosen))
            with self._within(label):
                return super()._inputs(label, candidates, num_chosen, required, merge)

        def _repeat(self, label: str, *rest: Any) -> Any:
            self._note(label, "repeat")
            with self._within(label):
                return super()._repeat(label, *rest)

        def _value(self, label: str, hyperparameter: Any) -> Choice:
            whole, _, name = label.rpartition("/")
            if whole.endswith("/inputs") and isinstance(architecture.get(label), bool):
                self._note_connection(whole, name, label)
            else:
                self._note(label, "value")
            return super()._value(label, hyperparameter)

        def _note_connection(self, whole: str, name: str, label: str) -> None:
            """A yes-or-no value that stands for an input, as ``inputs`` over any subset has it."""
            if whole not in self.entries:
                self._note(whole, "inputs", choice="", covers=())
            entry = self.entries[whole]
            if label not in entry.covers:
                entry.covers += (label,)
                entry.inputs += (name,) if architecture[label] else ()
                entry.choice = INPUT_SEPARATOR.join(entry.inputs)

    outliner = Outliner()
    assert space.network is not None
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        space.network(outliner, **space.options)
    return outliner.entries


def _from_conditions(
    space: SearchSpace, architecture: Mapping[str, Choice], labels: list[str]
) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for label in labels:
        decision, choice = space.decisions[label], architecture[label]
        whole = decision.meta.get("of")
        if decision.verb == "inputs" and isinstance(whole, str):
            entry = entries.setdefault(whole, Entry(whole, "inputs", "", _parent(decision)))
            entry.covers += (label,)
            if choice:
                entry.inputs += (str(decision.meta["edge"]),)
                entry.choice = INPUT_SEPARATOR.join(entry.inputs)
            continue
        inputs: tuple[str, ...] = ()
        if decision.verb == "inputs":
            inputs = tuple(str(choice).split(INPUT_SEPARATOR))
        entries[label] = Entry(
            label, decision.verb, choice, _parent(decision), inputs=inputs, covers=(label,)
        )
    return list(entries.values())


def _parent(decision: Any) -> str | None:
    """The decision that the first clause of the condition names last: the innermost."""
    return decision.condition[0][-1].label if decision.condition[0] else None
