"""Fused mixtures are the plain weighted sum: outputs, gradients, running statistics."""

import copy
import inspect
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nas_plugins.fused.geometry
from nas_plugins import SearchSpace, spaces
from nas_plugins.fused.geometry import Geometry
from nas_plugins.mutators import REGISTRY, create, mutator_class
from nas_plugins.operations import (
    DilatedConv,
    DropPath,
    FactorizedReduce,
    PoolBN,
    ReLUConvBN,
    SeparableConv,
    Zero,
)
from nas_plugins.spaces import amoebanet
from nas_plugins.supernet import MixedLayer

FAST = ["fused", "low_memory"]

CASES = {
    "darts": ("darts", {"channels": 4, "num_cells": 3}),
    "darts_evaluation": (
        "darts",
        {"channels": 4, "num_cells": 3, "affine": True, "auxiliary": True, "drop_path": 0.3},
    ),
    "nas_bench_201": ("nas_bench_201", {"channels": 4, "num_cells": 1}),
    "enas_micro": ("enas_micro", {"channels": 4, "num_cells": 3, "num_nodes": 2}),
    "amoebanet": ("amoebanet", dict(amoebanet.TINY)),
    "enas_macro": ("enas_macro", {"channels": 4, "num_layers": 3}),
    "proxylessnas": (
        "proxylessnas",
        {"widths": [8, 8], "depths": [2, 1], "strides": [1, 2], "last": 16, "stem_stride": 1},
    ),
}


def layer_gates(supernet):
    return [gate for gate in supernet.gates.values() if gate.verb == "layer"]


def random_weights(gate, seed):
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.randn(len(gate.choices), generator=generator, dtype=torch.float64)
    return alpha.requires_grad_()


def summed(supernet):
    for gate in layer_gates(supernet):
        gate.select(*range(len(gate.choices)))
    return []


def some(supernet):
    for i, gate in enumerate(layer_gates(supernet)):
        gate.select(*{i % len(gate.choices), (i + 3) % len(gate.choices)})
    return []


def softmax(supernet):
    alphas = [random_weights(gate, i) for i, gate in enumerate(layer_gates(supernet))]
    for gate, alpha in zip(layer_gates(supernet), alphas, strict=True):
        gate.mix(alpha.softmax(0).to(supernet._device))
    return alphas


def fixed_weights(supernet):
    for gate, alpha in zip(layer_gates(supernet), softmax(supernet), strict=True):
        gate.mix(alpha.detach())
    return []


def two_paths(supernet):
    alphas = softmax(supernet)
    for i, gate in enumerate(layer_gates(supernet)):
        gate.mix(gate.weights, {i % len(gate.choices), (i + 2) % len(gate.choices)})
    return alphas


def one_path_with_gradient(supernet):
    alphas = softmax(supernet)
    for i, gate in enumerate(layer_gates(supernet)):
        gate.mix(gate.weights, [i % len(gate.choices)])
    return alphas


FORMS = [summed, some, softmax, fixed_weights, two_paths, one_path_with_gradient]


def made(case, execution, **options):
    name, own = CASES[case]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return spaces.load(name, **{**own, **options}).supernet(execution=execution).double()


def images(size=8, batch=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64)


def value_of(out):
    """A scalar that tells outputs apart."""
    outputs = out if isinstance(out, tuple) else (out,)
    return sum((o * torch.linspace(-1, 1, o.numel()).view_as(o).to(o)).sum() for o in outputs)


def everything(supernet, alphas, x):
    """Outputs, gradients and buffers of one pass, by name."""
    x = x.clone().requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        out = supernet(x)
    value = value_of(out)
    value.backward()
    return {
        "value": value.detach(),
        "out": (out[0] if isinstance(out, tuple) else out).detach(),
        "x": x.grad,
        **{f"alpha{i}": alpha.grad for i, alpha in enumerate(alphas)},
        **{f"grad {n}": p.grad for n, p in supernet.named_parameters()},
        **{f"buffer {n}": b for n, b in supernet.named_buffers()},
    }


def assert_same(ours, theirs, tolerance=1e-9):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        found = ours[name]
        if expected is None or found is None:  # not reached, or by zeros alone
            rest = expected if found is None else found
            assert rest is None or not rest.any(), name
            continue
        torch.testing.assert_close(
            found, expected, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


class Edges(nn.Module):
    """Every operation of the cell spaces, at both strides, twice from one source."""

    def __init__(self, choose, c=4, affine=False, drop_path=0.0, nested=True):
        super().__init__()

        def edge(label, stride):
            def operation(make):
                return lambda: nn.Sequential(make(), DropPath(drop_path))

            reduce = partial(FactorizedReduce, c, c, affine=affine)
            candidates = {
                "max": operation(lambda: PoolBN("max", c, stride, norm=not affine)),
                "avg": operation(lambda: PoolBN("avg", c, stride)),
                "none": operation(lambda: Zero(stride)),
                "skip": nn.Identity if stride == 1 else reduce,
                "sep3": operation(lambda: SeparableConv(c, c, 3, stride, affine=affine)),
                "sep5": operation(lambda: SeparableConv(c, c, 5, stride, affine=affine)),
                "dil3": operation(lambda: DilatedConv(c, c, 3, stride, affine=affine)),
                "dil5": operation(lambda: DilatedConv(c, c, 5, stride, affine=affine)),
                "conv": lambda: ReLUConvBN(c, c, 3, stride, affine=affine),
            }
            inner = {str(k): partial(ReLUConvBN, c, c, k, stride, affine=affine) for k in (1, 3)}
            if nested:
                candidates["nested"] = lambda: choose.layer(f"{label}/inner", inner)
            return choose.layer(label, candidates)

        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.edges = nn.ModuleList([edge("a", 1), edge("b", 1), edge("c", 2), edge("d", 2)])

    def forward(self, x):
        a, b, c, d = self.edges
        x = self.stem(x)
        between = a(x) + b(x)
        return c(between) * d(between)


def edges(execution, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        space = SearchSpace.from_network(Edges, **options)
        return space.supernet(execution=execution).double()


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    """So that images of tests are computed as large ones are."""
    monkeypatch.setattr(nas_plugins.fused.geometry, "SMALL", 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "options", [{}, {"affine": True}, {"affine": True, "drop_path": 0.3}], ids=str
)
def test_same_as_the_plain_sum(form, options):
    for size in (8, 7):
        naive = edges("naive", **options)
        expected = everything(naive, form(naive), images(size))
        for execution in FAST:
            ours = edges(execution, **options)
            assert_same(everything(ours, form(ours), images(size)), expected)


@pytest.mark.parametrize("case", CASES)
def test_spaces_as_the_plain_sum(case):
    expected, ours = (made(case, e) for e in ("naive", "fused"))
    x = images(9)
    assert_same(everything(ours, softmax(ours), x), everything(expected, softmax(expected), x))


def made_mixed(case, execution):
    supernet = made(case, execution)
    softmax(supernet)
    return supernet


def kept_bytes(supernet):
    """Of what a forward pass keeps for the backward pass, each storage once."""
    sizes = {}
    keep = []  # alive, so that no address is used twice

    def pack(tensor):
        keep.append(tensor)
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = supernet(images(16))
    assert out is not None
    parameters = sum(p.numel() * p.element_size() for p in supernet.parameters())
    return sum(sizes.values()) - parameters


@pytest.mark.parametrize(
    ("case", "share", "low_share"),
    [("darts", 0.4, 0.25), ("nas_bench_201", 0.75, 0.75), ("enas_micro", 0.5, 0.35)],
)
def test_memory(case, share, low_share):
    naive, fused, low_memory = (kept_bytes(made_mixed(case, e)) for e in ("naive", *FAST))
    assert low_memory < fused < share * naive
    assert low_memory < low_share * naive


@pytest.mark.parametrize("execution", ["naive", *FAST])
def test_a_single_path_is_exactly_the_child(execution):
    supernet = made("darts", execution)
    architecture = supernet.space.default()
    child = supernet.child(architecture).double()
    supernet.set_path(architecture)
    x = images()
    assert torch.equal(supernet(x), child(x))
    value_of(supernet(x)).backward()
    value_of(child(x)).backward()
    gradients = dict(supernet.named_parameters())
    path = supernet.path_state_dict(architecture)
    own = {t.data_ptr(): n for n, t in gradients.items()}
    for name, parameter in child.named_parameters():
        assert torch.equal(gradients[own[path[name].data_ptr()]].grad, parameter.grad), name


def test_keys_do_not_depend_on_the_execution():
    states = [made("nas_bench_201", execution).state_dict() for execution in ("naive", *FAST)]
    assert list(states[0]) == list(states[1]) == list(states[2])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_an_unknown_execution_is_named():
    with pytest.raises(ValueError, match=r"execution is 'quick'; expected one of \['fused', "):
        made("darts", "quick")


@pytest.mark.parametrize("execution", FAST)
def test_gradients_accumulate(execution):
    found = []
    for supernet in (made("nas_bench_201", "naive"), made("nas_bench_201", execution)):
        alphas = softmax(supernet)
        first = everything(supernet, alphas, images())
        softmax_again = [alpha.softmax(0) for alpha in alphas]
        for gate, weights in zip(layer_gates(supernet), softmax_again, strict=True):
            gate.mix(weights)
        second = everything(supernet, alphas, images(9))
        assert first["alpha0"] is second["alpha0"]
        found.append(second)
    assert_same(found[1], found[0])


def test_a_graph_can_be_used_twice():
    supernet = edges("fused")
    softmax(supernet)
    value = value_of(supernet(images()))
    weights = list(supernet.parameters())
    first = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(value, weights, allow_unused=True)
    for a, b in zip(first, second, strict=True):
        assert a is b is None or torch.equal(a, b)


def test_second_derivatives():
    found = []
    for execution in ("naive", *FAST):
        supernet = edges(execution, affine=True)
        alphas = softmax(supernet)
        weights = list(supernet.parameters())
        slopes = torch.autograd.grad(
            value_of(supernet(images(6, 2))), weights, create_graph=True, allow_unused=True
        )
        product = sum((s * s).sum() for s in slopes if s is not None)
        found.append(torch.autograd.grad(product, [*alphas, *weights], allow_unused=True))
    for fast in found[1:]:
        assert_same(dict(enumerate(fast)), dict(enumerate(found[0])), tolerance=1e-8)


OPTIONS = {"warmup": 0.0, "num_samples": 2, "hidden_size": 8, "arch_lr": 0.05}

MUTATORS = {
    **{name: (name, {}) for name in sorted(REGISTRY)},
    "darts_second_order": ("darts", {"order": 2}),
    "darts_exact": ("darts", {"order": "exact"}),
    "pc_darts_half": ("pc_darts", {"num_parts": 2}),
}


@pytest.mark.parametrize("case", MUTATORS)
def test_searches_take_the_same_steps(case):
    name, options = MUTATORS[case]
    known = inspect.signature(mutator_class(name)).parameters
    options = {**{o: v for o, v in OPTIONS.items() if o in known}, **options}
    states = []
    for execution in ("naive", "fused"):
        supernet = edges(execution, c=8, nested=False)
        mutator = create(name, supernet, **options).double()
        optimizer = torch.optim.SGD(supernet.parameters(), 0.01, momentum=0.9)
        train, valid = images(6), images(6).flip(0)

        def loss(batch, supernet=supernet):
            return value_of(supernet(batch).tanh())

        for step in range(2):
            mutator.architecture_step(loss, train, valid, optimizer)
            mutator.open_for_weights(step / 2)
            optimizer.zero_grad()
            loss(train).backward()
            optimizer.step()
        states.append({**supernet.state_dict(), **dict(mutator.named_parameters())})
    assert_same(states[1], states[0], tolerance=1e-6)


# -- what has been changed runs as it is -------------------------------------------------------


def mixed(candidates):
    """A supernet of one mixed layer, fused and naive, with the same weights."""

    class Net(nn.Module):
        def __init__(self, choose):
            super().__init__()
            self.op = choose.layer("op", candidates)

        def forward(self, x):
            return self.op(x)

    space = SearchSpace.from_network(Net)
    naive = space.supernet(execution="naive").double()
    fused = space.supernet().double()
    fused.load_state_dict(naive.state_dict())
    return naive, fused


def cell_candidates():
    return {
        "conv": lambda: ReLUConvBN(4, 4, 3),
        "sep": lambda: SeparableConv(4, 4, 5, affine=False),
        "max": lambda: PoolBN("max", 4),
        "avg": lambda: PoolBN("avg", 4),
        "skip": nn.Identity,
    }


def features(channels=4):
    return torch.randn(2, channels, 6, 6, dtype=torch.float64)


def frozen_norms(supernet):
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def exchanged_candidate(supernet):
    replaced = nn.Conv2d(4, 4, 1).double()
    nn.init.constant_(replaced.weight, 0.3)
    nn.init.constant_(replaced.bias, 0.1)
    supernet.network.op.candidates["max"] = replaced


def padded_otherwise(supernet):
    for module in supernet.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [p for p in module.padding for _ in range(2)]


def parametrized(supernet):
    conv = supernet.network.op.candidates["conv"][1]
    nn.utils.parametrizations.weight_norm(conv)


def another_momentum(supernet):
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None


def without_statistics(supernet):
    for module in list(supernet.modules()):
        if isinstance(module, nn.Sequential):
            for i, layer in enumerate(module):
                if isinstance(layer, nn.BatchNorm2d):
                    module[i] = nn.BatchNorm2d(
                        4, affine=layer.affine, track_running_stats=False
                    ).double()


@pytest.mark.parametrize(
    "change",
    [
        frozen_norms,
        exchanged_candidate,
        padded_otherwise,
        parametrized,
        another_momentum,
        without_statistics,
    ],
)
def test_changed_modules(change):
    naive, fused = mixed(cell_candidates())
    change(naive)
    change(fused)
    x = features()
    assert_same(everything(fused, softmax(fused), x), everything(naive, softmax(naive), x))


def test_hooks_run():
    naive, fused = mixed(cell_candidates())
    seen = []
    for supernet in (naive, fused):
        conv = supernet.network.op.candidates["sep"][2]
        conv.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
        pool = supernet.network.op.candidates["max"]
        pool.register_full_backward_hook(lambda module, args, out: seen.append(out[0]))
    x = features()
    assert_same(everything(fused, softmax(fused), x), everything(naive, softmax(naive), x))
    assert len(seen) == 4
    torch.testing.assert_close(seen[0], seen[2])
    torch.testing.assert_close(seen[1], seen[3])


def test_hooks_for_all_modules_run():
    _, fused = mixed(cell_candidates())
    softmax(fused)
    seen = set()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: seen.add(module)
    )
    try:
        fused(features())
    finally:
        handle.remove()
    assert seen >= set(fused.network.op.candidates.modules()) - {fused.network.op.candidates}


def test_convolutions_stand_where_norms_should_be():
    """Every part of a candidate has to fit, or it runs as it is."""
    naive, fused = mixed(
        {
            "inplace": lambda: nn.Sequential(
                nn.Identity(), nn.ReLU(inplace=False), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            ),
            "bias": lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
            "empty": nn.Sequential,
            "dropped": lambda: nn.Sequential(nn.Identity(), DropPath(0.5)),
            "oblong": lambda: nn.Sequential(
                nn.ReLU(), nn.Conv2d(4, 4, (1, 3), padding="same", bias=False), nn.BatchNorm2d(4)
            ),
            "strided": lambda: ReLUConvBN(4, 4, 3),
        }
    )
    x = features()
    assert_same(everything(fused, softmax(fused), x), everything(naive, softmax(naive), x))


def test_what_is_no_image_is_summed_plainly():
    naive, fused = mixed({"a": lambda: nn.Linear(3, 3), "b": nn.Identity})
    softmax(naive)
    softmax(fused)
    for x in (torch.randn(5, 3).double(), torch.randn(2, 4, 5, 3).double()):
        assert torch.equal(fused(x), naive(x))


def test_layout_of_a_network_without_fast_candidates_is_left_alone():
    _, fused = mixed({"a": lambda: nn.Conv2d(4, 4, 1), "b": nn.Identity})
    assert fused(features()).is_contiguous()


def test_changes_in_place_between_two_readers_are_seen():
    class Net(nn.Module):
        def __init__(self, choose):
            super().__init__()
            self.ops = nn.ModuleList(choose.layer(n, cell_candidates()) for n in ("a", "b"))

        def forward(self, x):
            first = self.ops[0](x)
            x = x.mul_(2)
            return first + self.ops[1](x)

    space = SearchSpace.from_network(Net)
    naive, fused = (space.supernet(execution=e).double() for e in ("naive", "fused"))
    fused.load_state_dict(naive.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(fused(features().fill_(0.5)), naive(features().fill_(0.5)))
        x = features()
        torch.testing.assert_close(fused(x.clone()), naive(x.clone()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, nullcontext])
def test_without_gradients(mode):
    naive, fused = made_mixed("nas_bench_201", "naive"), made_mixed("nas_bench_201", "fused")
    with mode():
        torch.testing.assert_close(fused(images()), naive(images()))
        torch.testing.assert_close(
            dict(fused.named_buffers()), dict(naive.named_buffers()), atol=1e-9, rtol=1e-9
        )
        naive.eval()
        fused.eval()
        torch.testing.assert_close(fused(images()), naive(images()))


def test_shapes_alone():
    with torch.device("meta"):
        supernet = made("nas_bench_201", "fused")
        out = supernet(torch.empty(2, 3, 8, 8, dtype=torch.float64))
    assert out.shape == (2, 10)


def test_one_value_per_channel_is_refused():
    for supernet in mixed(cell_candidates()):
        softmax(supernet)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            supernet(torch.randn(1, 4, 1, 1, dtype=torch.float64))


def test_a_copy_shares_nothing():
    supernet = made("nas_bench_201", "fused")
    fixed_weights(supernet)
    twin = copy.deepcopy(supernet)
    shared = {id(m.sharing) for m in twin.modules() if isinstance(m, MixedLayer)}
    assert shared == {id(twin._sharing)} != {id(supernet._sharing)}
    assert torch.equal(twin(images()), supernet(images()))


@pytest.mark.parametrize("affine", [False, True])
def test_autocast(affine):
    """In bf16 both are as far from float32."""
    found = []
    for execution, autocast in (("naive", False), ("naive", True), ("fused", True)):
        supernet = edges(execution, affine=affine).float()
        alphas = [a.detach().float().requires_grad_() for a in softmax(supernet)]
        for gate, alpha in zip(layer_gates(supernet), alphas, strict=True):
            gate.mix(alpha.softmax(0))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = supernet(images(8, 16).float())
        value_of(out.float()).backward()
        parts = [out, *(a.grad for a in alphas), *(p.grad for p in supernet.parameters())]
        found.append(torch.cat([p.detach().float().flatten() for p in parts if p is not None]))
        dtypes = {p.grad.dtype for p in supernet.parameters() if p.grad is not None}
        assert dtypes == {torch.float32}
    exact, naive, fused = found
    assert (fused - exact).norm() < 1.5 * (naive - exact).norm()
    assert (naive - exact).norm() > 0


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(3, 1, 1, 1), (5, 1, 2, 1), (3, 1, 2, 2), (5, 1, 4, 2), (5, 1, 0, 1), (3, 1, 1, 2)]
    + [(3, 2, 1, 1), (5, 2, 4, 2), (7, 1, 3, 1), (3, 1, 4, 1), (1, 1, 0, 1)],
)
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_gradients_of_depthwise_convolutions(kernel, stride, padding, dilation, size):
    geometry = Geometry(kernel, stride, padding, dilation, 3)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(x, weight, None, stride, padding, dilation, 3)
    gradient = torch.randn_like(out)
    expected = torch.autograd.grad(out, (x, weight), gradient)
    found = geometry.gradients(gradient, x.detach(), weight.detach(), True, True)
    torch.testing.assert_close(found, expected)
    if geometry.reads_even_pixels:
        even = geometry.of_even_pixels()(x[:, :, ::2, ::2], weight)
        torch.testing.assert_close(even, out)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("form", FORMS)
def test_same_on_a_gpu(form):
    for execution in FAST:
        expected, ours = (edges(e, affine=True).cuda() for e in ("naive", execution))
        x = images().cuda()
        assert_same(everything(ours, form(ours), x), everything(expected, form(expected), x))
