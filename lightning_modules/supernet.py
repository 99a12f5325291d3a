"""The supernet of a search, trained as a classifier of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_modules.callbacks.architecture_search import ArchitectureSearch
from lightning_modules.child import ChildClassifier
from lightning_modules.data import ImageDataModule
from lightning_modules.recipe import Schedule
from nas_plugins import mutators
from nas_plugins.architecture import Architecture, Choice
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.one_shot import OneShotScore, accuracy
from nas_plugins.mutators.base import Mutator
from nas_plugins.prior import Prior
from nas_plugins.rebuild import CheckpointError, read_tensors, reference, resolve
from nas_plugins.space import SearchSpace
from nas_plugins.supernet import Execution

__all__ = ["SupernetClassifier"]


class SupernetClassifier(pl.LightningModule):
    """A space's supernet with the recipe of DARTS; the search itself is a callback.

    Liu et al. 2019, arXiv:1806.09055, section 3.1.1 and appendix A.1: SGD with momentum,
    learning rate on a cosine from 0.025 to 0.001, stepped after every epoch, gradients
    clipped at norm 5. The module brings its own
    :class:`~lightning_modules.callbacks.ArchitectureSearch`, so a Trainer needs nothing
    more; with ``SearchDataModule(data)`` half of the training images go to the architecture.

    Logs ``train_loss`` and ``train_acc``, ``val_loss`` and ``val_acc``, or ``test_loss`` and
    ``test_acc``, and what the callback logs.

    Args:
        network: The space, or its network, or the network's name ``module:qualname``.
        mutator: Name of the method: ``darts``, …, or ``module:Class`` of one of your own.
        network_options: Override the space's own options.
        fixed: Decisions answered once and for all; see :class:`~nas_plugins.supernet.Supernet`.
        execution: How mixtures are computed, ``fused``, ``low_memory`` or ``naive``; see there.
        mutator_options: Of the method.
        learning_rate: Of SGD in the first epoch.
        min_learning_rate: That the cosine approaches.
        momentum, weight_decay: Of SGD.
        gradient_clip_val: Norm of the gradient at most; the Trainer's own setting goes first.
        every_n_steps, warmup_epochs, evaluate: Of the callback.
        seed: Of the mutator and of the order of the architecture's batches. Weights are
            drawn from torch's global generator as in any module.

    Attributes:
        space: What is searched.
        supernet: All candidates in one network.
        search: The callback; ``search.derive()``, ``search.history``, ``search.mutator``.

    Raises:
        MutatorNameError: No such method, or it has no such option.
        UnsupportedSpaceError: The method does not apply to this space.

    Example:
        >>> module = SupernetClassifier(space, "darts")  # doctest: +SKIP
        >>> Trainer(max_epochs=50).fit(module, SearchDataModule(data))  # doctest: +SKIP
        >>> (score, best), *others = module.rank(data, num=5)  # doctest: +SKIP
        >>> module.child(best, inherit_weights=False)  # doctest: +SKIP
    """

    def __init__(
        self,
        network: SearchSpace | Callable[..., nn.Module] | str,
        mutator: str = "darts",
        *,
        network_options: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Choice] | None = None,
        execution: Execution = "fused",
        mutator_options: Mapping[str, Any] | None = None,
        learning_rate: float = 0.025,
        min_learning_rate: float = 0.001,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        gradient_clip_val: float = 5.0,
        every_n_steps: int = 1,
        warmup_epochs: int = 0,
        evaluate: Literal["supernet", "derived"] = "supernet",
        seed: int = 0,
    ) -> None:
        super().__init__()
        options = dict(network_options or {})
        if isinstance(network, SearchSpace):
            self.space = network
            options = {**network.options, **options}
        else:
            make = resolve(network) if isinstance(network, str) else network
            self.space = SearchSpace.from_network(make, **options)
        self.supernet = self.space.supernet(fixed, execution=execution, **options)
        method_class = mutators.mutator_class(mutator)
        if not issubclass(method_class, Mutator):
            raise mutators.MutatorNameError(f"{mutator!r} is no subclass of Mutator")
        mutator_options = method_class.plain(mutator_options or {})
        method = mutators.create(mutator, self.supernet, seed=seed, **mutator_options)
        self.search = ArchitectureSearch(
            method,
            every_n_steps=every_n_steps,
            warmup_epochs=warmup_epochs,
            evaluate=evaluate,
            seed=seed,
        )
        self._trained_on: torch.device | None = None
        self.save_hyperparameters(
            {
                "network": reference(self.space.network) if self.space.network else None,
                "mutator": mutator,
                "network_options": options,
                "fixed": dict(fixed or {}),
                "execution": execution,
                "mutator_options": mutator_options,
                "learning_rate": learning_rate,
                "min_learning_rate": min_learning_rate,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "gradient_clip_val": gradient_clip_val,
                "every_n_steps": every_n_steps,
                "warmup_epochs": warmup_epochs,
                "evaluate": evaluate,
                "seed": seed,
            }
        )

    def configure_callbacks(self) -> Sequence[pl.Callback]:
        return [self.search]

    def on_fit_end(self) -> None:
        self._trained_on = self.device

    def forward(self, x: Tensor) -> Any:
        return self.supernet(x)

    # -- steps --------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate("train", *batch)

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluate("val", *batch)

    def test_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._evaluate("test", *batch)

    def architecture_reward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Accuracy: what methods that learn by reinforcement maximise."""
        images, labels = batch
        return accuracy(self._logits(images), labels)

    def _evaluate(self, stage: str, images: Tensor, labels: Tensor) -> Tensor:
        logits = self._logits(images)
        loss = nn.functional.cross_entropy(logits, labels)
        values = {f"{stage}_loss": loss, f"{stage}_acc": accuracy(logits, labels)}
        training = stage == "train"
        self.log_dict(
            values,
            prog_bar=training,
            on_step=training,
            on_epoch=True,
            sync_dist=not training,
            batch_size=len(labels),
        )
        return loss

    def _logits(self, images: Tensor) -> Tensor:
        output = self.supernet(images)
        return output[0] if isinstance(output, tuple) else output

    # -- optimisation -------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        hparams = self.hparams
        optimizer = torch.optim.SGD(
            self.parameters(),
            hparams["learning_rate"],
            momentum=hparams["momentum"],
            weight_decay=hparams["weight_decay"],
        )
        self.trainer.fit_loop.setup_data()  # for the number of batches
        steps = self.trainer.estimated_stepping_batches
        updates = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        epochs = steps / math.ceil(updates) if math.isfinite(updates) else math.inf
        if not math.isfinite(epochs):  # a search without an end
            return optimizer
        lowest = min(hparams["min_learning_rate"], hparams["learning_rate"])
        floor = lowest / hparams["learning_rate"]
        schedule = Schedule(optimizer, "cosine", max(1, math.ceil(epochs)), floor=floor)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val is None:
            gradient_clip_val = self.hparams["gradient_clip_val"]
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm or "norm")

    # -- after the search ---------------------------------------------------------------

    def rank(
        self, data: ImageDataModule, num: int = 5, *, recalibration_batches: int = 16
    ) -> list[tuple[float, Architecture]]:
        """Derive the ``num`` best architectures, each scored by its inherited weights.

        Args:
            data: Batch norms are recalibrated on its training images, accuracy is measured
                on its validation images.
            num: How many; methods that learn weights alone choose them among many more.
            recalibration_batches: Of training images.

        Returns:
            Pairs of validation accuracy in [0, 1] and architecture, best first.
        """
        score = self.one_shot_score(data, recalibration_batches=recalibration_batches)
        return self.search.rank(num, score)

    def prior(
        self,
        data: ImageDataModule,
        *,
        num: int = 100,
        num_sampled: int = 0,
        recalibration_batches: int = 16,
    ) -> Prior:
        """What the search has found out, for a search by training to start from.

        Args:
            data: As for :meth:`rank`. Unused where the method changes the supernet's paths,
                so that none can be scored: then only ranks and probabilities are known.
            num: Architectures to derive, see :func:`nas_plugins.mutators.prior_of`.
            num_sampled: Further ones to score, drawn uniformly.
            recalibration_batches: Of training images.
        """
        mutator = self.search.mutator
        if not mutator.inherits_weights:
            return mutators.prior_of(mutator, num=num)
        score = self.one_shot_score(data, recalibration_batches=recalibration_batches)
        return mutators.prior_of(
            mutator, score, num=num, num_sampled=num_sampled, seed=self.hparams["seed"]
        )

    def one_shot_score(
        self,
        data: ImageDataModule,
        *,
        recalibration_batches: int = 16,
        device: torch.device | str | None = None,
    ) -> OneShotScore:
        """Scores any architecture of the space by the supernet's weights as they are.

        Args:
            data: As for :meth:`rank`.
            recalibration_batches: Of training images.
            device: Where children are scored. Default: where the supernet was trained, though
                Lightning has taken it back to the CPU since; else where it is.

        Raises:
            UnsupportedSpaceError: The method changes the supernet's paths, so that none is a
                child; ``search.derive()`` works all the same.
        """
        if not self.search.mutator.inherits_weights:
            raise UnsupportedSpaceError(
                f"{type(self.search.mutator).__name__} changes the supernet's paths, so that "
                "none is a child that could be scored; take search.derive() as it is"
            )
        return OneShotScore(
            self.supernet,
            data.train_dataloader(),
            data.val_dataloader(),
            recalibration_batches=recalibration_batches,
            device=self._trained_on if device is None else device,
        )

    def child(
        self,
        architecture: Mapping[str, Choice],
        *,
        inherit_weights: bool = True,
        data: ImageDataModule | None = None,
        **options: Any,
    ) -> ChildClassifier:
        """An architecture's child, ready to be trained on, tested or exported.

        Args:
            architecture: A member of the space.
            inherit_weights: Copy the weights of its path; else they are drawn anew.
            data: With inherited weights, batch norms are recalibrated on its training images.
            options: Of :class:`ChildClassifier`; ``network_options`` such as more channels
                go with fresh weights only.

        Raises:
            UnsupportedSpaceError: The method changes the supernet's paths, so that children
                cannot take their weights.
        """
        changed = dict(options.pop("network_options", {}))
        network_options = {**self.hparams["network_options"], **changed}
        child = ChildClassifier(
            self.space, architecture, network_options=network_options, **options
        )
        if not inherit_weights:
            return child
        method = self.search.mutator
        if changed or not method.inherits_weights:
            why = f"network_options {sorted(changed)}" if changed else f"{type(method).__name__}"
            raise UnsupportedSpaceError(
                f"the child cannot take the supernet's weights, because of {why}; use "
                "inherit_weights=False"
            )
        if data is None:
            weights: Mapping[str, Tensor] = self.supernet.path_state_dict(architecture)
        else:
            weights = self.one_shot_score(data).child(architecture).state_dict()
        child.network.load_state_dict(weights)
        return child.to(self.device)

    # -- checkpoints --------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get("callbacks", {}).get(self.search.state_key)
        if state is None:
            raise CheckpointError(
                "the checkpoint holds weights alone and nothing of the architecture; expected "
                "one written without save_weights_only"
            )
        mutator = self.search.mutator
        mutator.load_state_dict(state["mutator"])
        self.search.history = list(state["history"])
        drawn = mutator.generator.get_state()
        mutator.open_for_weights(mutator.progress)
        mutator.generator.set_state(drawn)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = None, **overrides: Any
    ) -> SupernetClassifier:
        """Rebuild supernet and search; nothing in the file is unpickled.

        Args:
            checkpoint_path: File that a Trainer wrote.
            map_location: Device; default the CPU.
            overrides: Constructor arguments in place of the saved ones: ``network=space``
                where the saved network cannot be imported, or to have the space's own
                notion of equal architectures.

        Raises:
            CheckpointError: The file is damaged, of another class, or its network cannot be
                imported.
        """
        checkpoint = read_tensors(checkpoint_path, map_location=map_location or "cpu")
        saved = dict(checkpoint.get("hyper_parameters", {}))
        if "mutator" not in saved:
            raise CheckpointError(f"{checkpoint_path} is no checkpoint of {cls.__name__}")
        if saved.get("network") is None and "network" not in overrides:
            raise CheckpointError(
                f"{checkpoint_path} names no network that can be imported: give the space "
                "again, load_from_checkpoint(path, network=space)"
            )
        with torch.random.fork_rng(devices=[]):
            module = cls(**{**saved, **overrides})
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
        return module.to(map_location or "cpu")
