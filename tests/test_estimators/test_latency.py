"""Latency under a clock of our own, on this machine, and on tables that others measured."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from ConfigSpace import ConfigurationSpace
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from benchmarks.data import data_directory
from nas_plugins import SearchSpace, UnsupportedSpaceError
from nas_plugins.estimators import latency as module
from nas_plugins.estimators.latency import (
    Conditions,
    DeviceError,
    latency,
    latency_of,
)
from nas_plugins.estimators.latency_profile import measure_table
from nas_plugins.estimators.latency_table import (
    Agreement,
    LatencyTable,
    LatencyTableError,
    fit_table,
)
from nas_plugins.mutators import ProxylessNAS
from nas_plugins.mutators.expected_cost import ExpectedCost
from nas_plugins.spaces.nas_bench_201 import EDGES, OPERATIONS
from nas_plugins.testing.mutators import Search
from nas_plugins.testing.spaces import load_tiny

TINY = Conditions(input_shape=(4, 2, 2), warmup=1, repeats=3)


# -- under a clock of our own -----------------------------------------------------------


class Sandglass:
    """What passes is said by the modules themselves."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def __deepcopy__(self, memo):
        return self  # networks are copied before they run, time is not


@pytest.fixture
def sandglass(monkeypatch):
    glass = Sandglass()
    monkeypatch.setattr(module, "time", glass)
    return glass


class Takes(nn.Module):
    """So many milliseconds, then what is inside."""

    def __init__(self, glass, milliseconds, inside=None):
        super().__init__()
        self.glass, self.milliseconds = glass, milliseconds
        self.inside = inside or nn.Identity()

    def forward(self, x):
        self.glass.now += self.milliseconds / 1e3
        return self.inside(x)


def timed_space(glass):
    """Every verb; each module takes a power of two of milliseconds."""

    class Net(nn.Module):
        def __init__(self, choose):
            super().__init__()

            def takes(milliseconds, inside=None):
                return lambda: Takes(glass, milliseconds, inside and inside())

            def shared():
                return choose.layer("shared", {"dear": takes(8), "cheap": takes(1)})

            def block(i):
                return choose.layer(
                    f"block{i}", {"nested": takes(16 * (i + 1), shared), "plain": takes(64)}
                )

            self.stem = Takes(glass, 100)
            self.first = shared()
            self.body = choose.repeat("depth", block, (0, 2), head=lambda d: Takes(glass, 128 * d))
            self.pair = choose.inputs("pair", {"a": takes(2), "b": takes(4)}, num_chosen=1)
            self.any = choose.inputs(
                "any", {"x": takes(256), "y": takes(512)}, num_chosen=None, required=["y"]
            )
            self.width = choose.value("width", [1, 2])

        def forward(self, x):
            x = self.stem(x)
            y = self.body(self.first(x))
            return self.any([x, self.pair([x, y])])

    return SearchSpace.from_network(Net, name="timed")


def test_every_number_of_the_table_is_its_modules_time(sandglass):
    table = measure_table(timed_space(sandglass), TINY)
    assert table.constant_ms == pytest.approx(100 + 512)  # the stem and the required input
    costs = {label: dict(table[label]) for label in table}
    expected = {
        "depth": {"0": 0, "1": 128, "2": 256},
        "block0": {"nested": 16, "plain": 64},
        "block1": {"nested": 32, "plain": 64},
        "pair": {"a": 2, "b": 4},
        "any/x": {"False": 0, "True": 256},
    }
    shared = costs.pop("shared")
    assert costs == {k: pytest.approx(v, abs=1e-6) for k, v in expected.items()}
    # In one to three places, as many as the other choices have it: a mean.
    assert 8 < shared["dear"] < 24
    assert 1 < shared["cheap"] < 3


def test_sums_are_the_latency_of_whole_networks(sandglass):
    """Exactly, where each label is in one place."""
    space = timed_space(sandglass)
    table = measure_table(space, TINY)
    once = [a for a in space.enumerate() if "nested" not in a.values()]
    assert len(once) > 10
    for architecture in once:
        shared = {"dear": 8, "cheap": 1}[architecture["shared"]]
        whole = latency_of(space, architecture, TINY).median_ms
        rest = table.of({k: v for k, v in architecture.items() if k != "shared"})
        assert rest + shared == pytest.approx(whole)


def test_choices_are_measured_evenly_and_progress_ends(sandglass):
    space, reported = timed_space(sandglass), []
    measure_table(space, TINY, rounds=4, progress=lambda *of: reported.append(of))
    done, totals = zip(*reported, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {4 * 13}  # choices but those of the value
    assert done[-1] == totals[0]
    assert len(reported) < 40


def test_the_same_seed_measures_the_same_architectures(sandglass):
    space = timed_space(sandglass)
    first, second, other = (measure_table(space, TINY, seed=seed) for seed in (0, 0, 1))
    assert dict(first["shared"]) == pytest.approx(dict(second["shared"]))
    assert dict(first["shared"]) != pytest.approx(dict(other["shared"]))


@pytest.fixture
def convolutions_take_time(sandglass):
    """In proportion to their multiply-adds, and a little for the launch."""

    def takes(convolution, _, out):
        if isinstance(convolution, nn.Conv2d):
            sandglass.now += 1e-5 + convolution.weight[0].numel() * out[0].numel() / 1e9

    hook = register_module_forward_hook(takes)
    yield
    hook.remove()


def of_random(space, num, seed):
    rng = np.random.default_rng(seed)
    architectures = [space.sample(rng) for _ in range(num)]
    conditions = Conditions(input_shape=(3, 8, 8), warmup=0, repeats=1)
    return architectures, [latency_of(space, a, conditions).median_ms for a in architectures]


def test_proxylessnas_is_additive(convolutions_take_time):
    space = load_tiny("proxylessnas")
    table = measure_table(space, Conditions(input_shape=(3, 8, 8), warmup=0, repeats=1), rounds=1)
    found = table.agreement(*of_random(space, 30, seed=1))
    assert found.mean_relative < 1e-9
    assert found.kendall > 0.99  # ties are broken by rounding


def test_where_choices_change_each_others_work_a_fit_is_better(convolutions_take_time):
    space = load_tiny("mnasnet")
    table = measure_table(space, Conditions(input_shape=(3, 8, 8), warmup=0, repeats=1))
    fitted = fit_table(*of_random(space, 150, seed=0))
    timed, fit = (t.agreement(*of_random(space, 30, seed=1)) for t in (table, fitted))
    assert fit.kendall > timed.kendall
    assert fit.mean_absolute_ms < timed.mean_absolute_ms
    assert fit.pearson > 0.8


def test_medians_and_percentiles(sandglass):
    class Uneven(nn.Module):
        passes = 0

        def forward(self, x):
            sandglass.now += self.passes / 1e3
            self.passes += 1
            return x

    conditions = Conditions(input_shape=(1, 1, 1), warmup=4, repeats=101)
    found = latency(Uneven(), conditions)  # the first pass tries, four warm up: 5 to 105
    assert found.median_ms == pytest.approx(55)
    assert found.mean_ms == pytest.approx(55)
    assert found.percentiles_ms == pytest.approx({5: 10, 25: 30, 75: 80, 95: 100})
    stated = json.loads(json.dumps(found.to_dict()))
    assert stated["conditions"]["threads"] == 1
    assert stated["conditions"]["device_name"]


# -- on this machine --------------------------------------------------------------------


class Widths(nn.Module):
    """Three layers, each of a small and a large convolution."""

    def __init__(self, choose, channels=64):
        super().__init__()

        def convolution(kernel):
            return lambda: nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

        self.stem = nn.Conv2d(4, channels, 1)
        self.layers = nn.Sequential(
            *(choose.layer(f"{i}", {"k1": convolution(1), "k7": convolution(7)}) for i in range(3))
        )
        self.linear = nn.Linear(channels, 2)

    def forward(self, x):
        return self.linear(self.layers(self.stem(x)).mean((2, 3)).tanh())


class ProcessorTime:
    """What other processes take does not count."""

    perf_counter = process_time = staticmethod(time.process_time)


@pytest.fixture(scope="module")
def measured():
    space = SearchSpace.from_network(Widths)
    conditions = Conditions(input_shape=(4, 16, 16), batch_size=4, warmup=2, repeats=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", ProcessorTime)
        yield space, conditions, measure_table(space, conditions, rounds=2)


def test_what_computes_more_takes_longer(measured):
    space, conditions, table = measured
    for label in space.decisions:
        assert table[label]["k7"] > 3 * table[label]["k1"] > 0
    slow, fast = (dict.fromkeys(space.decisions, k) for k in ("k7", "k1"))
    assert latency_of(space, slow, conditions).median_ms > table.of(fast)


@pytest.mark.parametrize(
    "options",
    [
        {"latency_weight": 0.2, "arch_lr": 0.05},
        {
            "method": "reinforce",
            "latency_target_ms": 0.5,
            "num_samples": 16,
            "baseline_decay": 0.5,  # a short search
            "arch_lr": 0.1,
        },
    ],
    ids=["gradient", "reinforce"],
)
def test_a_measured_table_lowers_the_latency_of_a_search(measured, tmp_path, options):
    space, _, table = measured
    table.write(tmp_path / "table.json")
    latencies = {}
    for with_table in (False, True):
        given = {"latency_ms": tmp_path / "table.json"} if with_table else {}
        chosen = {k: v for k, v in options.items() if with_table or "latency" not in k}
        search = Search(lambda s, seed, o={**chosen, **given}: ProxylessNAS(s, **o), space)
        expected = ExpectedCost(space, table)
        choices = dict.fromkeys(space.decisions, ("k1", "k7"))
        before = float(expected.expected(choices, search.mutator.probabilities()))
        search.run(0, 20, total=20)
        after = float(expected.expected(choices, search.mutator.probabilities()))
        latencies[with_table] = after / before
    assert latencies[True] < 0.95
    assert latencies[True] < latencies[False] - 0.05


def test_the_network_and_the_settings_are_left_alone():
    network = nn.BatchNorm2d(4).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    found = latency(
        network, Conditions(input_shape=(4, 2, 2), threads=2, dtype="bfloat16", repeats=2)
    )
    assert found.median_ms > 0
    assert network.training
    assert network.weight.dtype == torch.float32
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_is_waited_for():
    size = 4096
    conditions = Conditions(input_shape=(size,), batch_size=size, device="cuda", repeats=10)
    found = latency(nn.Linear(size, size, bias=False), conditions)
    # 69 GFLOP: a launch takes microseconds, the product more than half a millisecond.
    assert found.median_ms > 0.5
    space = SearchSpace.from_network(Widths)
    table = measure_table(space, Conditions(input_shape=(4, 64, 64), batch_size=32, device="cuda"))
    assert all(table[label]["k7"] > table[label]["k1"] > 0 for label in space.decisions)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="repeats is 0; expected at least 1"):
        Conditions(input_shape=(1, 1, 1), repeats=0)
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        Conditions(input_shape=(1, 1, 1), dtype="int8")
    with pytest.raises(DeviceError, match="device is 'tpu'; expected 'cpu'"):
        Conditions(input_shape=(1, 1, 1), device="tpu")
    with pytest.raises(UnsupportedSpaceError, match="Conv2d does not take images of shape"):
        latency(nn.Conv2d(3, 4, 1), Conditions(input_shape=(1, 2, 2)))
    with pytest.raises(UnsupportedSpaceError, match="has no network"):
        measure_table(SearchSpace(ConfigurationSpace({"op": ["a", "b"]})), TINY)
    with pytest.raises(LatencyTableError, match="measured for another space"):
        LatencyTable({"op": {"a": 1.0}}, 3.0).of({"cell/1<-0": "skip"})


# -- the table --------------------------------------------------------------------------


def test_a_table_is_json(tmp_path):
    table = LatencyTable({"op": {"True": 1.5, "3": 2.0}}, 10.0, {"device": "cpu"})
    table.write(tmp_path / "table.json")
    again = LatencyTable.read(tmp_path / "table.json")
    assert again == table
    assert again.of({"op": True}) == 11.5
    assert again.of({"op": 3, "other": "x"}) == 12.0
    assert again.of({}) == 10.0
    with pytest.raises(LatencyTableError, match=r"no '4' at 'op'; it has \['True', '3'\]"):
        again.of({"op": 4})


@pytest.mark.parametrize("text", [None, "{}", "[]", "x", '{"latency_ms": {"a": 3}}'])
def test_what_is_no_table_is_refused(text, tmp_path):
    path = tmp_path / "table.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LatencyTableError, match="expected a file that 'nas-plugins latency'"):
        LatencyTable.read(path)


def test_agreement_is_what_the_names_say():
    found = Agreement.between([1.0, 2.0, 4.0, 4.0], [2.0, 4.0, 4.0, 10.0])
    assert found.mean_absolute_ms == pytest.approx(9 / 4)
    assert found.mean_relative == pytest.approx((0.5 + 0.5 + 0 + 0.6) / 4)
    assert found.bias_ms == pytest.approx(-9 / 4)
    assert found.r2 == pytest.approx(1 - (1 + 4 + 0 + 36) / 36)
    assert found.pearson == pytest.approx(np.corrcoef([1, 2, 4, 4], [2, 4, 4, 10])[0, 1])
    # Six pairs: four in order, one tied in each sequence.
    assert found.kendall == pytest.approx(4 / math.sqrt(5 * 5))
    assert math.isnan(Agreement.between([1.0, 1.0], [1.0, 2.0]).pearson)


def test_a_fit_finds_an_additive_table_back():
    rng = np.random.default_rng(0)
    true = LatencyTable({"a": {"x": 1.0, "y": 4.0}, "b": {"1": 0.0, "2": 7.0}}, 20.0)
    drawn = [{"a": rng.choice(["x", "y"]), "b": int(rng.integers(1, 3))} for _ in range(20)]
    drawn += [{"a": "x"}]  # b is absent: not as if it were 1
    fitted = fit_table(drawn, [true.of(a) + 5.0 * ("b" not in a) for a in drawn])
    assert [fitted.of(a) for a in drawn[:-1]] == pytest.approx([true.of(a) for a in drawn[:-1]])
    assert fitted.of({"a": "x"}) == pytest.approx(26.0)
    assert fitted["a"]["y"] - fitted["a"]["x"] == pytest.approx(3.0)
    with pytest.raises(LatencyTableError, match="0 architectures and 1 latencies"):
        fit_table([], [1.0])


# -- what others measured ---------------------------------------------------------------


def read(name):
    path = data_directory() / name
    if not path.is_file():
        pytest.skip(f"no {path}; set NAS_PLUGINS_DATA to its folder")
    return np.load(path, allow_pickle=False)


def held_out(architectures, latencies, num_fitted):
    """Agreement of a table fitted to the first of them with the others."""
    table = fit_table(architectures[:num_fitted], latencies[:num_fitted])
    return table.agreement(architectures[num_fitted:], latencies[num_fitted:])


@pytest.fixture(scope="module")
def fbnet():
    with read("fbnet_latency_help.npz") as table:
        names = table["op_names"]
        rows = [{str(i): str(names[o]) for i, o in enumerate(row)} for row in table["arch"]]
        devices = ("titan_rtx_64", "2080ti_1", "samsung_a50", "raspi4", "fpga")
        return rows, {device: table[f"lat_{device}"].astype(float) for device in devices}


@pytest.mark.parametrize(
    ("device", "pearson_squared", "r2"),
    [
        ("titan_rtx_64", 0.997, 0.995),
        ("2080ti_1", 0.984, 0.962),
        ("samsung_a50", 0.434, 0.368),
        ("raspi4", 1.0, 1.0),  # a sum of a table itself
        ("fpga", 1.0, 1.0),
    ],
)
def test_fbnets_are_as_additive_as_their_device(fbnet, device, pearson_squared, r2):
    """A thousand of 5,000 architectures, of 22 layers with nine choices, predict the others."""
    architectures, latencies = fbnet
    found = held_out(architectures, latencies[device], 1000)
    assert found.pearson**2 == pytest.approx(pearson_squared, abs=6e-4)
    assert found.r2 == pytest.approx(r2, abs=6e-4)


@pytest.mark.parametrize(("device", "r2"), [("eyeriss", 1.0), ("fpga", 1.0), ("raspi4", 0.90)])
def test_nas_bench_201_from_a_fiftieth_of_it(device, r2):
    with read("nb201_latency_help.npz") as table, read("nb201.npz") as cells:
        some = np.random.default_rng(0).permutation(len(cells["ops"]))[:1500]
        latencies, rows = table[device].astype(float)[some], cells["ops"][some]
    architectures = [
        {f"cell/{e}": OPERATIONS[o] for e, o in zip(EDGES, row, strict=True)} for row in rows
    ]
    found = held_out(architectures, latencies, 300)
    assert found.r2 == pytest.approx(r2, abs=1e-6 if r2 == 1.0 else 0.02)
