"""How much an evaluation may cost: one budget that every host understands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """Fidelity of one training.

    Attributes:
        epochs: Passes over the training data.
        data_fraction: Share of the training data that is used, in (0, 1].
        width: Factor on the network's channels, in (0, 1].
        num_cells: Cells of the network, ``None`` for the space's own number.

    Raises:
        ValueError: A field is out of its range.

    Example:
        >>> Budget(epochs=3).replace(data_fraction=0.5)
        Budget(epochs=3, data_fraction=0.5, width=1.0, num_cells=None)
    """

    epochs: int = 1
    data_fraction: float = 1.0
    width: float = 1.0
    num_cells: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.epochs != int(self.epochs):
            raise ValueError(f"epochs is {self.epochs}; expected an integer of at least 1")
        for name in ("data_fraction", "width"):
            share = getattr(self, name)
            if not (math.isfinite(share) and 0 < share <= 1):
                raise ValueError(f"{name} is {share}; expected a number in (0, 1]")
        if self.num_cells is not None and self.num_cells < 1:
            raise ValueError(f"num_cells is {self.num_cells}; expected at least 1")

    def replace(self, **changes: Any) -> Budget:
        """Copy with some fields exchanged."""
        return Budget(**{**asdict(self), **changes})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read by ``Budget(**...)``."""
        return asdict(self)

    def network_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A network's ``channels`` and ``num_cells`` under this budget.

        Args:
            options: The space's own options.

        Raises:
            ValueError: The budget narrows a network that has no such option.
        """
        changed: dict[str, Any] = {}
        if self.width != 1.0:
            changed["channels"] = max(1, round(_option(options, "channels") * self.width))
        if self.num_cells is not None:
            _option(options, "num_cells")
            changed["num_cells"] = self.num_cells
        return changed

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))


def _option(options: Mapping[str, Any], name: str) -> Any:
    if name not in options:
        raise ValueError(
            f"the budget sets {name}, but the network has no option {name!r} (it has "
            f"{sorted(options)}): leave that part of the budget at its default, or pass "
            f"{name}= to SearchSpace.from_network"
        )
    return options[name]
