"""Bounds of a strategy's options."""

from __future__ import annotations

import math

__all__ = ["check_at_least"]


def check_at_least(least: float, **options: float) -> None:
    """Refuse the first option that is below a bound, infinite or not a number.

    Raises:
        ValueError: Names the option and what it is.
    """
    for name, value in options.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name} is {value}; expected at least {least}")
