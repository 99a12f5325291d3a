"""ProxylessNAS, by gradient and by reinforcement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from nas_plugins.architecture import Choice
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.estimators.objectives import mnasnet_reward
from nas_plugins.mutators.alphas import AlphaMutator
from nas_plugins.mutators.base import Batch, Loss, Reward, frozen
from nas_plugins.mutators.derivation import active
from nas_plugins.mutators.expected_cost import CostTable, ExpectedCost
from nas_plugins.mutators.reinforcement import MovingBaseline, reward_of
from nas_plugins.supernet import Supernet

__all__ = ["ProxylessNAS"]


class ProxylessNAS(AlphaMutator):
    """Binary gates: one path for weights, two for alphas, so that the task needs no proxy.

    Cai et al. 2019, arXiv:1812.00332, section 3. A weight step runs one path, drawn from
    the softmax of alphas. The architecture step is, by ``method``:

    - ``"gradient"`` (section 3.2.1): each decision draws two choices by probability without
      replacement, and one of the two by their probabilities among themselves, whose gate is
      1 while the other's is 0. Both run, and eq. 4 gives their alphas' gradients from those
      of their gates. Afterwards both are shifted so that the probabilities of all other
      choices stay. With latencies, ``latency_weight`` times the expected latency (section
      3.3.1, eq. 6-8) is part of the loss.
    - ``"reinforce"`` (section 3.3.2): the policy gradient over ``num_samples`` paths. With
      latencies the reward is ``reward * (latency / target)^-0.07``, Tan et al. 2019's
      (MnasNet), as in the paper's experiments.

    Any decision has alphas, those over inputs too, one for each combination or for yes and
    no. Candidates in the mixture only are left out. Derivation: the likeliest choices.

    Args:
        supernet: Network whose gates are driven; not copied.
        method: ``"gradient"`` or ``"reinforce"``.
        latency_ms: Decision to choice to milliseconds, as measured on the user's device, or
            the file of them that ``nas-plugins latency`` wrote.
        latency_weight: Lambda_2 of eq. 8, loss per millisecond; ``gradient`` needs it with
            latencies (paper: tuned).
        latency_target_ms: ``reinforce`` needs it with latencies.
        num_samples: Paths per step of ``reinforce`` (published code: 10).
        baseline_decay: Of the moving average that ``reinforce`` subtracts (published code: 0.99).
        arch_lr: Adam step for alphas (paper: 1e-3 by gradient).
        betas: Of Adam (published code: 0, 0.999).
        arch_weight_decay: Of Adam (paper: none).
        seed: Of the alphas at the start and what is sampled.

    Shapes:
        alphas: ``(choices,)`` per decision.

    Raises:
        LatencyTableError: There is no such file.
        UnsupportedSpaceError: The latencies name what the space has not.
        ValueError: Latencies come without the weight or target that the method needs.
    """

    single_path: ClassVar[bool] = True

    def __init__(
        self,
        supernet: Supernet,
        *,
        method: Literal["gradient", "reinforce"] = "gradient",
        latency_ms: CostTable | str | Path | None = None,
        latency_weight: float | None = None,
        latency_target_ms: float | None = None,
        num_samples: int = 10,
        baseline_decay: float = 0.99,
        arch_lr: float = 1e-3,
        betas: tuple[float, float] = (0.0, 0.999),
        arch_weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        if method not in ("gradient", "reinforce"):
            raise ValueError(f"method is {method!r}; expected 'gradient' or 'reinforce'")
        super().__init__(
            supernet,
            arch_lr=arch_lr,
            betas=betas,
            arch_weight_decay=arch_weight_decay,
            seed=seed,
            mixture_only=False,
            edges_by_operation=False,
        )
        by_method = {
            "gradient": ("latency_weight", latency_weight),
            "reinforce": ("latency_target_ms", latency_target_ms),
        }
        name, needed = by_method.pop(method)
        ((other, unused),) = by_method.values()
        if unused is not None:
            raise ValueError(f"{other} is {unused}, which method={method!r} has no use for")
        if (latency_ms is None) != (needed is None):
            raise ValueError(
                f"latency_ms and {name} belong together in method={method!r}; got only one"
            )
        self.method = method
        self.latency = None
        if latency_ms is not None:
            self.latency = ExpectedCost(supernet.space, _table(latency_ms))
        self.latency_weight = latency_weight
        self.latency_target_ms = latency_target_ms
        self.num_samples = num_samples
        self.baseline = MovingBaseline(baseline_decay)
        self._choices = {k: of for driver in self._driven for k, of in driver.choices.items()}

    @classmethod
    def plain(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        table = options.get("latency_ms")
        if table is None:
            return dict(options)
        table = _table(table)
        content = table.to_dict() if isinstance(table, LatencyTable) else dict(table)
        return {**options, "latency_ms": content}

    def _open_for_weights(self) -> None:
        self._select(self._draw())

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
        reward: Reward | None = None,
    ) -> dict[str, float]:
        log = {}
        if self.method == "gradient":
            log["arch_loss"] = self._two_paths(loss, valid_batch)
        else:
            log["arch_reward"] = self._policy_gradient(loss, valid_batch, reward)
        if self.latency is not None:
            log["expected_latency_ms"] = float(self._expected_latency().detach())
        return log

    # -- by gradient --------------------------------------------------------------------

    def _two_paths(self, loss: Loss, batch: Batch) -> float:
        pairs = self._draw(2)
        self._mix(self._binary(pairs), pairs)
        with frozen(self.supernet):
            value = loss(batch)
            if self.latency is not None and self.latency_weight is not None:
                value = value + self.latency_weight * self._expected_latency()
            gradients = self._gradients(value, self.alphas)
        before = self._shares(pairs)
        self._update(gradients)
        with torch.no_grad():
            for label, alpha, old, new in zip(
                self.labels, self.alphas, before, self._shares(pairs), strict=True
            ):
                alpha[pairs[label]] += old - new
        return float(value.detach())

    def _binary(self, pairs: Mapping[str, list[int]]) -> dict[str, Tensor]:
        """Gates of the two choices: 1 and 0, with the gradient of their probabilities."""
        factors = {}
        logits = self._logits_on_cpu()
        for label, alpha, logit in zip(self.labels, self.alphas, logits, strict=True):
            pair = pairs[label]
            drawn = torch.multinomial(logit[pair].softmax(0), 1, generator=self.generator)
            among_two = alpha[pair].softmax(0)
            hard = torch.zeros_like(among_two)
            hard[int(drawn)] = 1.0
            gates = torch.zeros_like(alpha)
            gates[pair] = hard + (among_two - among_two.detach())
            factors[label] = gates
        return factors

    def _shares(self, pairs: Mapping[str, list[int]]) -> list[Tensor]:
        """Logarithm of the (not normalised) probability of each two together."""
        return [
            alpha.detach()[pairs[label]].logsumexp(0)
            for label, alpha in zip(self.labels, self.alphas, strict=True)
        ]

    # -- by reinforcement ---------------------------------------------------------------

    def _policy_gradient(self, loss: Loss, batch: Batch, reward: Reward | None) -> float:
        paths = [
            {label: i for label, (i,) in self._draw().items()} for _ in range(self.num_samples)
        ]
        rewards = []
        for path in paths:
            self._select({label: [i] for label, i in path.items()})
            rewards.append(self._with_latency(reward_of(loss, reward, batch), path))
        measured = self.alphas[0].new_tensor(rewards)
        self.synchronize([measured])
        advantages = self.baseline.advantages(measured)
        log_probabilities = torch.stack([self._log_probability(path) for path in paths])
        value = -(advantages * log_probabilities).mean()
        self._update(self._gradients(value, self.alphas))
        return float(measured.mean())

    def _with_latency(self, reward: float, path: Mapping[str, int]) -> float:
        if self.latency is None or self.latency_target_ms is None:
            return reward
        costs = {"latency_ms": self.latency.of(self._architecture(path))}
        return mnasnet_reward(reward, costs, {"latency_ms": self.latency_target_ms})

    def _log_probability(self, path: Mapping[str, int]) -> Tensor:
        """Of the architecture: decisions that are not active do not count."""
        chosen = self._architecture(path)
        terms = [
            alpha.log_softmax(0)[path[label]]
            for label, alpha in zip(self.labels, self.alphas, strict=True)
            if label in chosen
        ]
        return torch.stack(terms).sum()

    def _architecture(self, path: Mapping[str, int]) -> dict[str, Choice]:
        chosen = {label: self._choices[label][i] for label, i in path.items()}
        return active(self.supernet.space, {**chosen, **self.supernet.fixed})

    def _expected_latency(self) -> Tensor:
        assert self.latency is not None
        fixed: dict[str, Choice] = self.supernet.fixed
        probabilities = {k: a.softmax(0) for k, a in zip(self.labels, self.alphas, strict=True)}
        one = {label: self.alphas[0].new_ones(1) for label in fixed}
        choices = {**self._choices, **{label: (choice,) for label, choice in fixed.items()}}
        return self.latency.expected(choices, {**probabilities, **one})


def _table(latency_ms: CostTable | str | Path) -> CostTable:
    """A table, also one that was written to a file or as plain values."""
    if isinstance(latency_ms, (str, Path)):
        return LatencyTable.read(latency_ms)
    is_plain = isinstance(latency_ms.get("constant_ms"), (int, float))
    return LatencyTable.of_dict(latency_ms) if is_plain else latency_ms
