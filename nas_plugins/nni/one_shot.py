"""The mutators as one-shot strategies of ``nni.nas.experiment.NasExperiment``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any

import nni.nas.strategy  # noqa: F401 - before its one-shot part: the reverse is circular in 3.0
from nni.mutable import Mutable
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.strategy import OneShotStrategy
from nni.nas.space import RawFormatModelSpace
from torch import Tensor, nn

from lightning_modules import ResumableLoader
from lightning_modules.callbacks import ArchitectureSearch
from nas_plugins import mutators
from nas_plugins.architecture import Architecture, Choice
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.one_shot import OneShotScore, accuracy
from nas_plugins.mutators import Evaluate, Mutator
from nas_plugins.nni.model_space import ArchitectureModelSpace, sample_of

__all__ = ["SupernetStrategy"]


class SupernetStrategy(OneShotStrategy):
    """Runs a mutator of nas-plugins as a one-shot strategy of NNI.

    The experiment's one model is the supernet. The ``Lightning`` evaluator trains it with its
    own module, trainer and data, while the callback
    :class:`~lightning_modules.callbacks.ArchitectureSearch` drives its gates. Unlike under
    NNI's own one-shot strategies the trainer optimises automatically, so clipping,
    accumulation, schedulers and precision work as the evaluator says.

    Methods that learn an architecture do so on the batches of the data module's
    ``architecture_dataloader``, if it has that method, else on the validation data.

    ``experiment.export_top_models(k)`` gives the k best architectures; with
    ``formatter="instance"`` their networks, which inherit the supernet's weights, or have new
    ones after a method that changes the supernet's paths (``pc_darts``).
    ``experiment.resume()`` goes on from the last checkpoint that the trainer wrote.

    Args:
        mutator: Name of a method: ``darts``, ``enas``, ``proxyless``, ``one_shot``,
            ``uniform``, ``gdas``, ``pc_darts``, or ``package.module:Class``.
        seed: Of the mutator and of the order of the architecture's batches.
        fixed: Decisions answered once and for all; see :class:`~nas_plugins.supernet.Supernet`.
        every_n_steps: Architecture steps are taken at every n-th weight update.
        warmup_epochs: Epochs in which only weights are trained.
        metric: Of (logits, targets) of a validation batch, higher is better: what the
            exported architectures are ranked by.
        options: Of the method.

    Attributes:
        search: The callback, once the experiment runs: ``search.mutator``, ``search.history``.

    Raises:
        MutatorNameError: Unknown method or option; the message lists the known ones.
        UnsupportedSpaceError: When the experiment starts: the model space is not an
            :class:`ArchitectureModelSpace`, its space is not one for the method, or the
            evaluator has choices of its own.
        TypeError: When the experiment starts: the evaluator is not NNI's ``Lightning``.

    Example:
        >>> strategy = SupernetStrategy("gdas")
        >>> experiment = NasExperiment(model_space, evaluator, strategy)  # doctest: +SKIP
        >>> experiment.run()  # doctest: +SKIP
        >>> experiment.export_top_models(3, formatter="dict")  # doctest: +SKIP
    """

    search: ArchitectureSearch

    def __init__(
        self,
        mutator: str = "darts",
        *,
        seed: int = 0,
        fixed: Mapping[str, Choice] | None = None,
        every_n_steps: int = 1,
        warmup_epochs: int = 0,
        metric: Callable[[Tensor, Tensor], Tensor] = accuracy,
        **options: Any,
    ) -> None:
        super().__init__()
        mutators.check(mutator, options)
        self._name, self._seed, self._options = mutator, seed, options
        self._fixed = dict(fixed or {})
        self._every_n_steps, self._warmup_epochs = every_n_steps, warmup_epochs
        self._metric = metric

    def extra_repr(self) -> str:
        return f"{self._name!r}, seed={self._seed}"

    def mutate_model(self, model: ModelSpace) -> SupernetModelSpace:
        """The model space's supernet; the model space itself is left as it is."""
        if not isinstance(model, ArchitectureModelSpace):
            raise UnsupportedSpaceError(
                f"model space is a {type(model).__name__}; expected an ArchitectureModelSpace, "
                "because a supernet is made from a network that asks for its choices. NNI's own "
                "one-shot strategies search NNI's own spaces"
            )
        supernet = model.search_space.supernet(self._fixed)
        mutator = mutators.create(self._name, supernet, seed=self._seed, **self._options)
        self.search = ArchitectureSearch(
            mutator,
            every_n_steps=self._every_n_steps,
            warmup_epochs=self._warmup_epochs,
            seed=self._seed,
        )
        return SupernetModelSpace(mutator)

    def mutate_evaluator(self, evaluator: Lightning) -> Lightning:
        """The evaluator, its trainer with the callback until the search is over."""
        if not isinstance(evaluator, Lightning):
            raise TypeError(
                f"evaluator is a {type(evaluator).__name__}; expected nni.nas.evaluator.pytorch."
                "Lightning or one derived from it, such as Classification: a supernet is trained "
                "by Lightning"
            )
        choices = evaluator.simplify() if isinstance(evaluator, Mutable) else {}
        if choices:
            raise UnsupportedSpaceError(
                f"the evaluator has choices of its own, {sorted(map(str, choices))}: all "
                "architectures of a supernet are trained together; give each a value"
            )
        evaluator.trainer.callbacks.insert(0, self.search)  # checkpoints come last
        return evaluator

    def _cleanup(self) -> None:
        self._trainer.callbacks.remove(self.search)

    def list_models(
        self, sort: bool = True, limit: int | None = 1
    ) -> Iterator[RawFormatModelSpace]:
        """The best architectures, best first, their score as metric where they have one.

        Each is scored by its path on the validation data, batch norms recalibrated; none is
        without such data, or where paths are no children (``pc_darts``).

        Args:
            sort: Has no effect, the models come sorted.
            limit: How many; ``None`` is one.
        """
        mutator = self.search.mutator
        num = limit or 1
        found: list[tuple[float | None, Architecture]]
        if self._score is None:
            found = [(None, architecture) for architecture in self.search.derive(num)]
        else:
            found = [*self.search.rank(num, self._score)]
        for score, architecture in found:
            model = RawFormatModelSpace(self.supernet, self._evaluator)
            frozen = model.freeze(sample_of(mutator.supernet.space, architecture))
            if score is not None:
                frozen.metrics.final = score
            yield frozen

    @cached_property
    def _score(self) -> Evaluate | None:
        """What an architecture is worth; each is measured once, as the search is over."""
        mutator, trainer = self.search.mutator, self._trainer
        if not mutator.inherits_weights or not trainer.val_dataloaders:
            return None
        return cache(
            OneShotScore(
                mutator.supernet,
                ResumableLoader.like(trainer.train_dataloader, seed=self._seed),
                ResumableLoader.like(trainer.val_dataloaders, seed=self._seed),
                metric=self._metric,
                device=trainer.strategy.root_device,
            )
        )

    @property
    def _evaluator(self) -> Lightning:
        return self._mutated_model_space.evaluator

    @property
    def _trainer(self) -> Any:
        return self._evaluator.trainer


class SupernetModelSpace(ArchitectureModelSpace):
    """A model space that is its own supernet: a frozen model inherits the weights.

    Args:
        mutator: What drives the supernet.
    """

    def __init__(self, mutator: Mutator) -> None:
        super().__init__(mutator.supernet.space)
        self.supernet = mutator.supernet
        self._inherits = mutator.inherits_weights

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.supernet(*args, **kwargs)

    def freeze(self, sample: Mapping[str, Any]) -> nn.Module:
        """The child of a sample, with its path's weights where the method keeps them."""
        if self._inherits:
            return self.supernet.child(self.architecture(sample))
        return super().freeze(sample)
