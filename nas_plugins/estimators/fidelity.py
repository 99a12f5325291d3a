"""How well cheap evaluations rank, before they are trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

__all__ = ["Agreement", "agreement", "agreement_by_epoch"]

Interval = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How alike two scores rank the same architectures.

    Attributes:
        num: Architectures.
        kendall_tau: From -1 to 1; 0 is no better than chance, and stands where either score is
            constant.
        kendall_interval: Where it lies, by the confidence asked for.
        top: How many of the best were compared.
        top_overlap: Share of the best by the full score among the best by the cheap one;
            of equal scores each is among the best with the same chance.
        top_interval: Where that lies.
    """

    num: int
    kendall_tau: float
    kendall_interval: Interval
    top: int
    top_overlap: float
    top_interval: Interval

    def __str__(self) -> str:
        (low, high), (least, most) = self.kendall_interval, self.top_interval
        return (
            f"Kendall's tau {self.kendall_tau:.2f} ({low:.2f} to {high:.2f}), "
            f"{self.top_overlap:.0%} of the best {self.top} found ({least:.0%} to {most:.0%}), "
            f"{self.num} architectures"
        )


def agreement(
    cheap: Sequence[float],
    full: Sequence[float],
    *,
    top: int | None = None,
    confidence: float = 0.95,
    num_resamples: int = 500,
    seed: int = 0,
) -> Agreement:
    """Compare two scores of the same architectures.

    Intervals are percentiles of the bootstrap over architectures.

    Args:
        cheap: Scores at a low fidelity.
        full: Scores in the same order at the full one.
        top: How many of the best are compared; default: a tenth, at least one.
        confidence: Of the intervals, in (0, 1).
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: Of unequal length, fewer than three, or not finite.

    Example:
        >>> round(agreement([1, 2, 3, 5, 4], [10, 20, 30, 40, 50], top=2).kendall_tau, 3)
        0.8
    """
    first, second = np.asarray(cheap, dtype=float), np.asarray(full, dtype=float)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 3:
        raise ValueError(
            f"{first.shape} cheap and {second.shape} full scores; expected as many of both, at "
            "least three"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("scores are not all finite; leave failed evaluations out of both")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected it in (0, 1)")
    count = max(1, len(first) // 10) if top is None else top
    if not 1 <= count <= len(first):
        raise ValueError(f"top is {count}; expected 1 to {len(first)}, as many as there are")
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(first), size=(num_resamples, len(first)))

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        return _overlap(a, b, count)

    tails = [50 * (1 - confidence), 50 * (1 + confidence)]

    def interval(statistic: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
        found = [statistic(first[draw], second[draw]) for draw in draws]
        low, high = np.percentile(found, tails)
        return float(low), float(high)

    return Agreement(
        num=len(first),
        kendall_tau=_tau(first, second),
        kendall_interval=interval(_tau),
        top=count,
        top_overlap=overlap(first, second),
        top_interval=interval(overlap),
    )


def agreement_by_epoch(
    curves: Sequence[Sequence[float]],
    *,
    top: int | None = None,
    confidence: float = 0.95,
    num_resamples: int = 500,
    seed: int = 0,
) -> dict[int, Agreement]:
    """How well the score after each epoch foretells the last, from curves of full trainings.

    Args:
        curves: Score after each epoch; only those of the greatest length count.
        top: As there, in :func:`agreement`.
        confidence: As there.
        num_resamples: As there.
        seed: As there.

    Returns:
        Epochs, from 1 to the last but one, to the agreement.
    """
    length = max((len(curve) for curve in curves), default=0)
    whole = np.array([curve for curve in curves if len(curve) == length], dtype=float)
    return {
        epochs: agreement(
            whole[:, epochs - 1],  # type: ignore[arg-type]
            whole[:, -1],  # type: ignore[arg-type]
            top=top,
            confidence=confidence,
            num_resamples=num_resamples,
            seed=seed,
        )
        for epochs in range(1, length)
    }


def _tau(first: np.ndarray, second: np.ndarray) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(kendalltau(first, second).statistic)


def _overlap(first: np.ndarray, second: np.ndarray, count: int) -> float:
    return float(_chances(first, count) @ _chances(second, count)) / count


def _chances(scores: np.ndarray, count: int) -> np.ndarray:
    """Of each to be among the best so many, ties broken at random."""
    last = np.sort(scores)[-count]
    above, equal = scores > last, scores == last
    return above + equal * ((count - above.sum()) / equal.sum())
