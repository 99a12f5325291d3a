"""A search strategy, as HpBandSter asks for configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Union

from hpbandster.core.base_config_generator import base_config_generator
from hpbandster.core.dispatcher import Job

from nas_plugins import strategies
from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.space import SearchSpace
from nas_plugins.strategies.base import Strategy

__all__ = ["ArchitectureConfigGenerator", "Observe", "loss_of", "score_of"]

Observe = Literal["all", "largest"]


def loss_of(score: float) -> float:
    """HpBandSter minimises a loss, we maximise a score: of an accuracy, the error."""
    return 1.0 - score


def score_of(loss: float) -> float:
    """Inverse of :func:`loss_of`."""
    return 1.0 - loss


class ArchitectureConfigGenerator(base_config_generator):
    """Asks a strategy for each new configuration, and tells it every finished run.

    A configuration is an architecture, as a dict of label to choice. Proposals are numbered
    from 0 over the whole study; a warm start continues the count. Results are told in the
    order in which runs finish, a failed run with the score ``None``.

    The same architecture is run at several budgets when it is promoted. It is told each
    time, with the budget of that run in HpBandSter's units, or ``None`` at ``max_budget``:
    a strategy that does not look at budgets takes each run for an observation of its own,
    so that better architectures count once per rung they reached. With
    ``observe="largest"`` only the runs at ``max_budget`` are told: scores compare like with
    like, but under brackets few architectures get there.

    Args:
        strategy: A strategy, or the name of one (:mod:`nas_plugins.strategies`).
        space: Where architectures come from; default: the strategy's own space.
        seed: Of a strategy given by name.
        strategy_options: Of a strategy given by name.
        max_budget: The budget of a full evaluation; ``None``: no budget is full.
        observe: Which runs are told, ``"all"`` or ``"largest"``.
        logger: As in HpBandSter.

    Raises:
        UnsupportedSpaceError: No space, or not the strategy's.
        ArchitectureError: A told configuration is not of the space (a warm start from
            another study, say).
    """

    def __init__(
        self,
        strategy: Union[Strategy, str],
        space: SearchSpace | None = None,
        *,
        seed: int = 0,
        strategy_options: Mapping[str, Any] | None = None,
        max_budget: float | None = None,
        observe: Observe = "all",
        logger: Any = None,
    ) -> None:
        super().__init__(logger=logger)
        if observe not in ("all", "largest") or (observe == "largest" and max_budget is None):
            raise ValueError(
                f"observe is {observe!r} and max_budget {max_budget}; expected 'all', or "
                "'largest' with a max_budget"
            )
        self.strategy = _strategy(strategy, space, seed, strategy_options)
        self.max_budget = max_budget
        self.observe = observe
        self._num_proposed = 0
        self._num_pending = 0
        self._answered: set[tuple[int, ...]] = set()  # ids with a first result

    def get_config(self, budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next architecture, and its number and identity for the results."""
        number = self._num_proposed
        architecture = self.strategy.ask(number, pending=self._num_pending)
        self._num_proposed += 1
        self._num_pending += 1
        return dict(architecture), {"number": number, "architecture_id": architecture.id}

    def new_result(self, job: Job, update_model: bool = True) -> None:
        """Tell the strategy a finished run."""
        super().new_result(job, update_model)
        iteration, _, index = job.id
        if iteration < 0:  # a warm start: its proposals are (-1, 0, n)
            self._num_proposed = max(self._num_proposed, index + 1)
        elif job.id not in self._answered:
            self._answered.add(job.id)
            self._num_pending = max(0, self._num_pending - 1)
        budget = job.kwargs["budget"]
        # Budgets are powers of eta, so that the largest may be off by a rounding.
        full = self.max_budget is not None and budget >= self.max_budget * (1 - 1e-9)
        if full or self.observe == "all":
            config = job.kwargs["config"]
            # What an earlier search found may be of a space that has grown since.
            earlier = iteration < 0
            self.strategy.tell(
                self.strategy.space.recall(config) if earlier else Architecture(config),
                None if job.result is None else score_of(job.result["loss"]),
                budget=None if full else budget,
            )


def _strategy(
    strategy: Union[Strategy, str],
    space: SearchSpace | None,
    seed: int,
    options: Mapping[str, Any] | None,
) -> Strategy:
    if isinstance(strategy, str):
        if space is None:
            raise UnsupportedSpaceError(
                f"strategy {strategy!r} is given by name and no space is: pass space="
            )
        return strategies.create(strategy, space, seed=seed, **(options or {}))
    if space is not None and space != strategy.space:
        raise UnsupportedSpaceError(
            f"the strategy searches space {strategy.space.name!r}, but space= is "
            f"{space.name!r}: they have to be the same"
        )
    return strategy
