"""A supernet under torch.compile: the same sums, one graph, and none again for new alphas."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nas_plugins import mutators, spaces
from nas_plugins.supernet import Supernet


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def supernet(execution: str) -> Supernet:
    torch.manual_seed(0)
    space = spaces.load("nas_bench_201", channels=4, num_cells=1, num_classes=3)
    return space.supernet(execution=execution).double()


def gradients(network: torch.nn.Module, of: Supernet, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    of.zero_grad()
    loss = network(x).square().sum()
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in of.parameters() if p.grad is not None]


@pytest.mark.parametrize("execution", ["fused", "naive"])
def test_a_mixture_is_one_graph_and_gives_the_same_gradients(execution: str) -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ours = supernet(execution)
    mutator = mutators.create("darts", ours).double()
    mutator.open_for_weights()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    loss, found = gradients(compiled, ours, x)
    expected, wanted = gradients(ours, ours, x)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert len(found) == len(wanted)
    for ours_grad, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours_grad, theirs, rtol=1e-8, atol=1e-9)


def test_new_alphas_do_not_compile_again() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ours = supernet("fused")
    mutator = mutators.create("darts", ours).double()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    mutator.open_for_weights()
    before = compiled(x).detach()
    for alpha in mutator.alphas:
        alpha.data.normal_()
    mutator.open_for_weights()
    with torch.compiler.set_stance("fail_on_recompile"):
        after = compiled(x).detach()
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, ours(x).detach())


def test_a_path_is_one_graph() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ours = supernet("fused")
    mutators.create("uniform", ours).open_for_weights()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), ours(x))
