"""ENAS, a controller over shared weights."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from nas_plugins.architecture import Architecture
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.mutators.base import Batch, Evaluate, Loss, Mutator, Reward
from nas_plugins.mutators.controller import Controller, Policy
from nas_plugins.mutators.derivation import distinct, ranked
from nas_plugins.mutators.driver import drivers
from nas_plugins.mutators.reinforcement import MovingBaseline, reward_of
from nas_plugins.supernet import Supernet

__all__ = ["ENAS"]


class ENAS(Mutator):
    """Efficient architecture search: an LSTM policy learns which paths of shared weights do well.

    Pham et al. 2018, arXiv:1802.03268, sections 2.2 and 3, appendices. A weight step trains
    one path drawn from the policy. The architecture step draws ``num_samples`` paths and
    takes a REINFORCE step with their rewards on the validation batch (accuracy, where the
    loop gives it), to which the sampled choices' entropy is added, less a moving average.
    Where inputs are optional, as the skip connections of the macro space are, the
    divergence of their probabilities from ``skip_target`` is a penalty.
    Reference for what the paper leaves open: melodyguan/enas src/cifar10.

    Derivation: ``num_candidates`` architectures drawn from the policy, ranked by
    ``evaluate`` as published, or without it by their probability.

    Deviations: each decision has a head and an embedding of its own, in the order of the
    space, so that any space will do; the published attention over earlier nodes knows two.
    The baseline of a step is that before it, which keeps the gradient unbiased. The paper
    trains the controller in a phase of its own after each epoch: take architecture steps
    at every n-th weight step to spend as little on it.

    Args:
        supernet: Network whose gates are driven; not copied.
        num_samples: Paths of one architecture step (published code: 10 micro, 20 macro).
        num_candidates: How many architectures a derivation draws.
        hidden_size: Of the LSTM (paper: 100).
        temperature: Divides the logits (paper: 5).
        tanh_constant: Bounds the logits (paper: 2.5).
        entropy_weight: Of the entropy in the reward (paper: 1e-4).
        skip_weight: Of the penalty for skips (paper: 0.8).
        skip_target: Probability of a skip that is not penalised (paper: 0.4).
        baseline_decay: Of the moving average of rewards (published code: 0.99).
        arch_lr: Adam step for the controller (paper: 3.5e-4).
        seed: Of the controller's weights at the start and what is sampled.

    Raises:
        UnsupportedSpaceError: The space has forbidden clauses, which a policy that answers
            one decision after the other cannot respect, or no gate.
    """

    single_path: ClassVar[bool] = True

    def __init__(
        self,
        supernet: Supernet,
        *,
        num_samples: int = 10,
        num_candidates: int = 100,
        hidden_size: int = 100,
        temperature: float = 5.0,
        tanh_constant: float = 2.5,
        entropy_weight: float = 1e-4,
        skip_weight: float = 0.8,
        skip_target: float = 0.4,
        baseline_decay: float = 0.99,
        arch_lr: float = 3.5e-4,
        seed: int = 0,
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; expected it above 0")
        if not 0 < skip_target < 1:
            raise ValueError(f"skip_target is {skip_target}; expected it in (0, 1)")
        super().__init__(supernet, seed=seed)
        space = supernet.space
        if space.config_space.forbidden_clauses:
            raise UnsupportedSpaceError(
                f"space {space.name!r} has forbidden clauses, which ENAS's policy cannot respect "
                "as it answers one decision after the other; expected conditions only"
            )
        gated = {
            k: of for d in drivers(supernet, mixture_only=False) for k, of in d.choices.items()
        }
        self._choices = {label: gated[label] for label in space.decisions if label in gated}
        self.controller = Controller(
            space.decisions,
            self._choices,
            supernet.fixed,
            hidden_size=hidden_size,
            temperature=temperature,
            tanh_constant=tanh_constant,
            skip_target=skip_target,
            generator=self.generator,
        )
        self.baseline = MovingBaseline(baseline_decay)
        self.num_samples = num_samples
        self.num_candidates = num_candidates
        self.entropy_weight = entropy_weight
        self.skip_weight = skip_weight
        self._optimizer = torch.optim.Adam(self.controller.parameters(), lr=arch_lr)

    def optimizer(self) -> torch.optim.Optimizer:
        return self._optimizer

    def _open_for_weights(self) -> None:
        self.supernet.set_path(self.controller.draw(1, self.generator).choices[0])

    def architecture_step(
        self,
        loss: Loss,
        train_batch: Batch,
        valid_batch: Batch,
        weight_optimizer: torch.optim.Optimizer | None = None,
        reward: Reward | None = None,
    ) -> dict[str, float]:
        policy = self.controller.draw(self.num_samples, self.generator)
        measured = []
        for choices in policy.choices:
            self.supernet.set_path(choices)
            measured.append(reward_of(loss, reward, valid_batch))
        rewards = policy.log_probability.new_tensor(measured)
        self.synchronize([rewards])
        parameters = list(self.controller.parameters())
        gradients = self._gradients(self.surrogate(policy, rewards), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()
        return {
            "arch_reward": float(rewards.mean()),
            "baseline": float(self.baseline.value),
            "policy_entropy": float(policy.entropy.mean()),
        }

    def surrogate(self, policy: Policy, rewards: Tensor) -> Tensor:
        """What to minimise: its gradient is minus that of the expected reward, plus penalty's."""
        advantages = self.baseline.advantages(rewards + self.entropy_weight * policy.entropy)
        losses = -advantages * policy.log_probability + self.skip_weight * policy.skip_divergence
        return losses.mean()

    @torch.no_grad()
    def derive(self, num: int = 1, evaluate: Evaluate | None = None) -> list[Architecture]:
        policy = self.controller.draw(max(num, self.num_candidates), self._copied_generator())
        likeliest = policy.log_probability.argsort(descending=True, stable=True).tolist()
        drawn = (Architecture(policy.choices[i]) for i in likeliest)
        candidates = distinct(self.supernet.space, drawn)
        return (candidates if evaluate is None else ranked(candidates, evaluate))[:num]

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        """Means over the sequences that the next architecture step would draw."""
        seen = self.controller.draw(self.num_samples, self._copied_generator()).probabilities
        new = self.controller.start.new_full
        uniform = {k: new((len(of),), 1 / len(of)) for k, of in self._choices.items()}
        return {**uniform, **seen}

    def get_extra_state(self) -> dict[str, Any]:
        return {**super().get_extra_state(), "labels": list(self._choices)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        if state["labels"] != list(self._choices):
            raise UnsupportedSpaceError(
                f"the state is that of a search over {state['labels']}; this supernet's "
                f"decisions are {list(self._choices)}"
            )
        super().set_extra_state(state)
