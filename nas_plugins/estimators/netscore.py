"""NetScore, accuracy weighed against the size of a network and its work."""

from __future__ import annotations

import math

from nas_plugins.estimators.cost import Cost

__all__ = ["netscore"]


def netscore(
    accuracy: float, cost: Cost, *, alpha: float = 2.0, beta: float = 0.5, gamma: float = 0.5
) -> float:
    """``20 log10(a^alpha / (p^beta m^gamma))``, higher is better.

    Wong 2018, arXiv:1806.05512, section 2. ``a`` is the top-1 accuracy in percent, ``p``
    the parameters in millions, ``m`` the multiply-adds of one image in millions; where
    others count ``m`` in billions, their scores are ``60 gamma`` higher.

    Args:
        accuracy: Share of right answers, in (0, 1].
        cost: Of the network.
        alpha: How much accuracy counts (the paper's).
        beta: How much size counts.
        gamma: How much work counts.

    Raises:
        ValueError: The accuracy is not a share, or the network has no parameters or work.

    Example:
        >>> mobilenet_v2 = Cost(parameters=3_400_000, multiply_adds=300_000_000, bits=0)
        >>> round(netscore(0.72, mobilenet_v2), 2)
        44.21
    """
    if not 0 < accuracy <= 1:
        raise ValueError(f"accuracy is {accuracy}; expected a share in (0, 1]")
    if not (cost.parameters and cost.multiply_adds):
        raise ValueError(f"NetScore divides by size and work; got {cost}")
    return 20 * (
        alpha * math.log10(100 * accuracy)
        - beta * math.log10(cost.parameters / 1e6)
        - gamma * math.log10(cost.multiply_adds / 1e6)
    )
