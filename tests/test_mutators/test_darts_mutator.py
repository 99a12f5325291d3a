"""DARTS: its gradients against the paper's formulas, evaluated otherwise, in float64."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from nas_plugins import SearchSpace
from nas_plugins.mutators import DARTS
from nas_plugins.mutators.darts import OptimizerError
from nas_plugins.testing.mutators import Search, cell_space


class SmoothNet(nn.Module):
    """Two mixed layers without a kink."""

    def __init__(self, choose):
        super().__init__()

        def layer(label):
            return choose.layer(
                label,
                {
                    "linear": lambda: nn.Linear(4, 4),
                    "tanh": lambda: nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
                    "skip": nn.Identity,
                },
            )

        self.layers = nn.Sequential(layer("a"), nn.Sigmoid(), layer("b"))

    def forward(self, x):
        return self.layers(x.mean((2, 3)))[:, :2]


def smooth_space():
    return SearchSpace.from_network(SmoothNet)


def prepared(space, **options):
    """A search in float64, some steps in, so that momentum is there and alphas differ."""
    search = Search(lambda supernet, seed: DARTS(supernet, arch_lr=0.1, **options), space)
    search.supernet.double()
    search.mutator.double()
    search.batches = [(x.double(), y) for x, y in search.batches]
    order, search.mutator.order = search.mutator.order, 1
    search.run(0, 4)
    search.mutator.order = order
    return search


def alpha_gradients(search):
    """Those of the next architecture step, which is undone."""
    found = []
    state = copy.deepcopy(search.mutator.state_dict())
    hook = search.mutator.optimizer().register_step_pre_hook(
        lambda *_: found.extend(alpha.grad.clone() for alpha in search.mutator.alphas)
    )
    search.architecture_step()
    hook.remove()
    search.mutator.load_state_dict(state)
    return torch.cat(found)


def mix(search, alphas):
    """Set the gates by eq. 2, not by way of the mutator; all edges run."""
    mutator, gates = search.mutator, search.supernet.gates
    for gate in gates.values():
        gate.select(*range(len(gate.choices)))
    for label, alpha in zip(mutator.labels, alphas, strict=True):
        gates[label].mix(alpha.exp() / alpha.exp().sum())


def copied_alphas(search):
    return [a.detach().clone().requires_grad_() for a in search.mutator.alphas]


def test_first_order_is_the_slope_of_the_loss():
    search = prepared(smooth_space())
    slopes = []
    for which, alpha in enumerate(search.mutator.alphas):
        for i in range(len(alpha)):
            sides = []
            for sign in (1, -1):
                moved = [a.detach().clone() for a in search.mutator.alphas]
                moved[which][i] += sign * 1e-5
                mix(search, moved)
                sides.append(search.loss(search.batches[1]).item())
            slopes.append((sides[0] - sides[1]) / 2e-5)
    expected = torch.tensor(slopes, dtype=torch.float64)
    torch.testing.assert_close(alpha_gradients(search), expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("make_space", [cell_space, smooth_space])
def test_second_order_is_the_papers_formula(make_space):
    """Eq. 7 and 8 with weights overwritten in place, as the paper tells it."""
    search = prepared(make_space(), order=2)
    ours = alpha_gradients(search)

    (train, valid), alphas = search.batches, copied_alphas(search)
    weights = list(search.supernet.parameters())
    start = [w.detach().clone() for w in weights]
    xi, momentum, decay = 0.05, 0.9, 1e-3

    def gradients(batch, of):
        mix(search, alphas)
        return torch.autograd.grad(search.loss(batch), of)

    @torch.no_grad()
    def overwrite(values):
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)

    buffers = [search.optimizer.state[w]["momentum_buffer"] for w in weights]
    assert all(b.abs().sum() > 0 for b in buffers)
    overwrite(
        w - xi * (momentum * b + g + decay * w)
        for w, b, g in zip(start, buffers, gradients(train, weights), strict=True)
    )
    found = gradients(valid, [*alphas, *weights])
    direct, v = found[: len(alphas)], found[len(alphas) :]
    step = 0.01 / torch.sqrt(sum((x**2).sum() for x in v))
    overwrite(w + step * x for w, x in zip(start, v, strict=True))
    plus = gradients(train, alphas)
    overwrite(w - step * x for w, x in zip(start, v, strict=True))
    minus = gradients(train, alphas)
    theirs = [d - xi * (p - m) / (2 * step) for d, p, m in zip(direct, plus, minus, strict=True)]
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-8, rtol=0)
    assert (ours - torch.cat(direct)).norm() > 1e-5  # the second term is there


def backpropagated(search, rates=None):
    """Gradient of alphas through one unrolled step of the weights."""
    (train, valid), alphas = search.batches, copied_alphas(search)
    weights = dict(search.supernet.named_parameters())
    mix(search, alphas)
    slopes = torch.autograd.grad(search.loss(train), list(weights.values()), create_graph=True)
    virtual = {}
    for i, ((name, w), slope) in enumerate(zip(weights.items(), slopes, strict=True)):
        buffer = search.optimizer.state[w]["momentum_buffer"]
        rate = 0.05 if rates is None else rates[i]
        virtual[name] = w - rate * (0.9 * buffer + slope + 1e-3 * w)
    mix(search, alphas)
    x, y = valid
    out = torch.func.functional_call(search.supernet, virtual, (x,))
    value = nn.functional.cross_entropy(out, y)
    return torch.cat(torch.autograd.grad(value, alphas))


def test_exact_is_backpropagation_through_the_virtual_step():
    search = prepared(smooth_space(), order="exact")
    ours = alpha_gradients(search)
    torch.testing.assert_close(ours, backpropagated(search), atol=1e-10, rtol=0)


def test_finite_difference_tends_to_the_exact_product():
    search = prepared(smooth_space(), order=2)
    exact = backpropagated(search)
    errors = []
    for epsilon in (1.0, 0.1, 0.01, 0.001):
        search.mutator.epsilon = epsilon
        errors.append(float((alpha_gradients(search) - exact).norm() / exact.norm()))
    assert errors[-1] < 1e-7
    for wide, narrow in zip(errors[:2], errors[1:3], strict=True):
        assert narrow < wide / 50  # of second order: a hundredth


@pytest.mark.parametrize("order", [2, "exact"])
def test_every_weight_has_its_own_learning_rate(order):
    search = prepared(smooth_space(), order=order, epsilon=1e-3)
    (group,) = search.optimizer.param_groups
    parameters = group["params"]
    rates = [0.01 * (i + 1) for i in range(len(parameters))]
    options = {k: v for k, v in group.items() if k != "params"}
    search.optimizer.param_groups[:] = [
        {**options, "params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)
    ]
    exact = backpropagated(search, rates)
    torch.testing.assert_close(alpha_gradients(search), exact, atol=1e-9, rtol=0)


class TwoProcesses:
    """Averages what two searches, each in a thread, send at the same time."""

    def __init__(self):
        self.barrier = threading.Barrier(2, timeout=60)
        self.sent = {}

    def of(self, rank):
        def synchronize(tensors):
            self.sent[rank] = [tensor.clone() for tensor in tensors]
            self.barrier.wait()
            for tensor, a, b in zip(tensors, self.sent[0], self.sent[1], strict=True):
                tensor.copy_((a + b) / 2)
            self.barrier.wait()

        return synchronize


@pytest.mark.parametrize("order", [1, 2, "exact"])
def test_two_processes_step_as_one(order):
    """Each with half of the batches; there is no batch norm to tell them apart."""
    whole, processes = prepared(smooth_space(), order=order), TwoProcesses()
    halves = []
    for rank, part in enumerate((slice(0, 4), slice(4, 8))):
        half = prepared(smooth_space(), order=order)
        half.batches = [(x[part], y[part]) for x, y in half.batches]
        half.mutator.synchronize = processes.of(rank)
        halves.append(half)
    with ThreadPoolExecutor(2) as pool:
        for gradients in pool.map(alpha_gradients, halves):
            torch.testing.assert_close(gradients, alpha_gradients(whole), atol=1e-9, rtol=0)


def test_second_order_needs_the_optimizer():
    supernet = smooth_space().supernet()
    with pytest.raises(OptimizerError, match="pass weight_optimizer, or use order=1"):
        DARTS(supernet, order=2).architecture_step(None, None, None)


def test_derives_two_strongest_inputs_without_none():
    space = cell_space()
    mutator = DARTS(space.supernet())
    alphas = dict(zip(mutator.labels, mutator.alphas, strict=True))
    assert {label: len(a) for label, a in alphas.items()} == dict.fromkeys(
        ["2<-0", "2<-1", "3<-0", "3<-1", "3<-2"], 4
    )
    with torch.no_grad():  # conv, depthwise, skip, none
        alphas["2<-0"].copy_(torch.tensor([0.0, 2.0, 0.0, 0.0]))
        alphas["2<-1"].copy_(torch.tensor([3.0, 0.0, 0.0, 5.0]))  # weaker: none takes it all
        alphas["3<-0"].copy_(torch.tensor([0.0, 0.0, 1.0, 9.0]))
        alphas["3<-1"].copy_(torch.tensor([0.0, 0.1, 0.0, 0.0]))
        alphas["3<-2"].copy_(torch.tensor([0.5, 0.5, 0.6, 0.0]))
    (best,) = mutator.derive()
    assert dict(best) == {
        "node2": "0",
        "2<-0": "depthwise",
        "node3": "1+2",
        "3<-1": "depthwise",
        "3<-2": "skip",
    }


def test_derivation_is_in_order_of_the_product_of_probabilities():
    space = smooth_space()
    mutator = DARTS(space.supernet())
    with torch.no_grad():
        for alpha in mutator.alphas:
            alpha.normal_(generator=torch.Generator().manual_seed(len(alpha)))
        mutator.alphas[1].mul_(0.5)
    p = mutator.probabilities()

    def product(architecture):
        names = ["linear", "tanh", "skip"]
        return float(
            p["a"][names.index(architecture["a"])] * p["b"][names.index(architecture["b"])]
        )

    assert mutator.derive(9) == sorted(space.enumerate(), key=product, reverse=True)
    assert len(mutator.derive(20)) == 9


def test_state_of_another_search_is_refused():
    state = DARTS(smooth_space().supernet()).state_dict()
    other = SearchSpace.from_network(lambda choose: choose.layer("z", {"a": nn.Identity}), name="z")
    with pytest.raises(ValueError, match=r"search over \['a', 'b'\]"):
        DARTS(other.supernet()).set_extra_state(state["_extra_state"])
