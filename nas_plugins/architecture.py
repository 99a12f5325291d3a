"""An architecture: which choice was taken at each active decision of a space."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Union

from nas_plugins.errors import ArchitectureError

__all__ = ["Architecture", "Choice"]

Choice = Union[str, int, float, bool]


class Architecture(Mapping[str, Choice]):
    """Immutable, hashable mapping from decision label to the choice taken there.

    It holds the *active* decisions only: a decision inside a candidate that was not
    chosen has no entry. Two architectures are equal when their choices are.

    Args:
        choices: Label to choice; a choice is a plain string, number or boolean
            (numpy scalars are converted).

    Raises:
        ArchitectureError: A label is not a string, or a choice is no finite scalar.

    Example:
        >>> architecture = Architecture({"op": "conv", "depth": 3})
        >>> Architecture.from_json(architecture.to_json()) == architecture
        True
    """

    def __init__(self, choices: Mapping[str, Any]) -> None:
        self._choices = {label: _plain(label, choice) for label, choice in choices.items()}

    def __getitem__(self, label: str) -> Choice:
        return self._choices[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Architecture):
            return NotImplemented
        # 1 == 1.0 == True in Python, but not in JSON and not as arguments of a module.
        return self._choices == other._choices and all(
            type(choice) is type(other._choices[label]) for label, choice in self._choices.items()
        )

    def __reduce__(self) -> tuple[type[Architecture], tuple[dict[str, Choice]]]:
        # Without the cached hash, which differs between processes.
        return Architecture, (self._choices,)

    def __repr__(self) -> str:
        return f"Architecture({self._choices!r})"

    @cached_property
    def _hash(self) -> int:
        return hash(frozenset(self._choices.items()))

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name this architecture everywhere."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def replace(self, **choices: Choice) -> Architecture:
        """Copy with some choices exchanged (labels that are no identifiers: ``**{...}``)."""
        return Architecture({**self._choices, **choices})

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object, label to choice, keys sorted."""
        return json.dumps(self._choices, sort_keys=True, indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | Path) -> Architecture:
        """Read JSON text, or the file a :class:`~pathlib.Path` names.

        Raises:
            ArchitectureError: Not a JSON object of label to scalar.
        """
        source = "architecture JSON"
        if isinstance(text, Path):
            source, text = str(text), text.read_text(encoding="utf-8")
        try:
            choices = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArchitectureError(
                f"{source} is not valid JSON ({error}); expected an object such as "
                '{"label": "choice", ...}'
            ) from error
        if not isinstance(choices, dict):
            raise ArchitectureError(
                f"{source} holds a {type(choices).__name__}; expected an object such as "
                '{"label": "choice", ...}'
            )
        return cls(choices)


def _plain(label: object, choice: Any) -> Choice:
    if not isinstance(label, str):
        raise ArchitectureError(f"label {label!r} is a {type(label).__name__}; expected a string")
    # numpy's str_ and float64 pass isinstance checks for str and float: test exact types first.
    if type(choice) not in (str, int, bool, float):
        item = getattr(choice, "item", None)
        choice = item() if item is not None and getattr(choice, "ndim", 1) == 0 else choice
    if type(choice) is float and not math.isfinite(choice):
        raise ArchitectureError(f"choice at {label!r} is {choice}; expected a finite number")
    if type(choice) not in (str, int, bool, float):
        raise ArchitectureError(
            f"choice at {label!r} is {choice!r} of type {type(choice).__name__}; "
            "expected a string, a number or a boolean"
        )
    return choice
