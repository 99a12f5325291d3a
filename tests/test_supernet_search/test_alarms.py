"""Alarms: what they measure, when they ring, and that the search does not notice."""

import copy

import pytest
import torch
from tiny_search import Classifier, loaders, tiny_space, trainer

from lightning_modules.callbacks import (
    ArchitectureSearch,
    CurvatureAlarm,
    EntropyAlarm,
    SkipAlarm,
)
from lightning_modules.callbacks.alarms import SearchAlarm, dominant_eigenvalue
from lightning_modules.callbacks.architecture_search import SearchSetupError
from nas_plugins import mutators


def searched(*alarms, method="darts", max_epochs=2, prepare=None, **options):
    torch.manual_seed(0)
    module = Classifier(tiny_space().supernet(), dropout=0.2)
    mutator = mutators.create(method, module.backbone["net"], **options)
    if prepare is not None:
        prepare(mutator)
    search = ArchitectureSearch(mutator)
    made = trainer(search, *alarms, max_epochs=max_epochs)
    torch.manual_seed(1)
    made.fit(module, *loaders())
    return made, module, search


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_eigenvalue_is_that_of_largest_modulus(sign):
    torch.manual_seed(0)
    orthogonal = torch.linalg.qr(torch.randn(5, 5, dtype=torch.double)).Q
    values = sign * torch.tensor([-1.0, 0.3, 3.0, 0.5, 1.2], dtype=torch.double)
    matrix = orthogonal @ torch.diag(values) @ orthogonal.T
    parts = [torch.randn(n, dtype=torch.double, requires_grad=True) for n in (2, 3)]
    x = torch.cat(parts)
    found = dominant_eigenvalue(
        0.5 * x @ matrix @ x + x.sum(), parts, num_iterations=60, tolerance=0.0
    )
    assert found == pytest.approx(sign * 3.0, rel=1e-6)


def test_eigenvalue_of_a_linear_loss_is_zero():
    x = torch.ones(3, requires_grad=True)
    assert dominant_eigenvalue(x.sum(), [x]) == 0.0


def test_curvature_is_that_of_the_loss_in_the_alphas():
    measured = {}

    class Exact(CurvatureAlarm):
        """Compares with the whole Hessian."""

        def measure(self, search, trainer, pl_module):
            mutator = search.mutator
            batch = search.probe_batch(trainer, pl_module)
            sizes = [len(alpha) for alpha in mutator.alphas]

            def loss(x):
                alphas = dict(zip(mutator.labels, x.split(sizes), strict=True))
                for driver in mutator.drivers:
                    driver.mix({label: alpha.softmax(0) for label, alpha in alphas.items()})
                return search.borrowed(batch)

            pl_module.dropout.p = 0.0
            value = super().measure(search, trainer, pl_module)
            start = torch.cat([alpha.detach() for alpha in mutator.alphas])
            hessian = torch.autograd.functional.hessian(loss, start)
            eigenvalues = torch.linalg.eigvalsh(hessian.double())
            measured["exact"] = float(eigenvalues[eigenvalues.abs().argmax()])
            measured["found"] = value
            return value

    searched(Exact(num_iterations=100), max_epochs=1)
    assert measured["found"] == pytest.approx(measured["exact"], rel=1e-2)
    assert measured["found"] != 0


def test_the_search_does_not_notice_alarms():
    runs = []
    for alarms in ([], [CurvatureAlarm(), EntropyAlarm(), SkipAlarm(limit=99)]):
        made, module, search = searched(*alarms)
        runs.append((module.state_dict(), search.state_dict()["mutator"], torch.get_rng_state()))
        if alarms:
            assert {"alarm/curvature", "alarm/entropy", "alarm/skips"} <= set(made.callback_metrics)
            assert [len(alarm.values) for alarm in alarms] == [2, 2, 2]
    (weights, method, rng), (other_weights, other_method, other_rng) = runs
    assert all(torch.equal(w, other_weights[name]) for name, w in weights.items())
    assert all(torch.equal(p, other_method[n]) for n, p in method.items() if "alpha" in n)
    assert torch.equal(rng, other_rng)


def prefer_skips(mutator):
    for label, alpha in zip(mutator.labels, mutator.alphas, strict=True):
        if label in ("cell/first", "cell/second"):
            alpha.data[2] += 10.0


@pytest.mark.parametrize("stop", [False, True])
def test_skips_ring_and_may_stop(stop):
    alarm = SkipAlarm(stop=stop)
    with pytest.warns(SearchAlarm, match="2 skip connections in one cell") as caught:
        made, _, _ = searched(alarm, prepare=prefer_skips, max_epochs=3)
    assert len([w for w in caught if w.category is SearchAlarm]) == 1
    assert alarm.raised_at == 0
    assert made.current_epoch == (1 if stop else 3)
    assert alarm.values == [2.0] * made.current_epoch


def test_skips_of_other_cells_do_not_count():
    alarm = SkipAlarm(cells=["normal"])
    searched(alarm, prepare=prefer_skips)
    assert alarm.values == [0.0, 0.0]
    assert alarm.raised_at is None


def test_entropy_rings_when_all_is_decided():
    def decide(mutator):
        for alpha in mutator.alphas:
            alpha.data[0] += 20.0

    alarm = EntropyAlarm()
    with pytest.warns(SearchAlarm, match="nothing is left to decide"):
        searched(alarm, prepare=decide)
    calm = EntropyAlarm()
    searched(calm)
    assert alarm.values[0] < 1e-3
    assert 0.99 < calm.values[0] <= 1.0
    assert calm.raised_at is None


def test_curvature_rings_by_the_published_rule():
    alarm = CurvatureAlarm(window=2, ratio=0.75)
    alarm.values = [1.0, 1.0, 1.0]
    assert alarm.complaint() is None  # too early
    alarm.values = [1.0, 1.0, 1.2, 1.4]  # 1 / 1.3 = 0.77
    assert alarm.complaint() is None
    alarm.values = [1.0, 1.0, 1.3, 1.4]  # 1 / 1.35 = 0.74
    assert "rose from 1 to 1.35" in alarm.complaint()
    assert "from epoch 1" in alarm.complaint()
    alarm.values = [-1.0, -1.0, -0.1, -0.1]
    assert alarm.complaint() is None


def test_alarms_are_kept_in_checkpoints():
    alarm = SkipAlarm()
    alarm.values, alarm.raised_at = [1.0, 2.0], 1
    other = SkipAlarm()
    other.load_state_dict(copy.deepcopy(alarm.state_dict()))
    assert (other.values, other.raised_at) == ([1.0, 2.0], 1)


@pytest.mark.parametrize("alarm", [EntropyAlarm, CurvatureAlarm])
def test_a_method_without_alphas_is_refused(alarm):
    with pytest.raises(SearchSetupError, match="learns no alphas"):
        searched(alarm(), method="uniform")


def test_an_alarm_without_a_search_is_refused():
    made = trainer(EntropyAlarm())
    with pytest.raises(SearchSetupError, match="needs a search to watch"):
        made.fit(Classifier(tiny_space().supernet()), *loaders())


def test_two_cells_may_each_have_an_alarm():
    alarms = [SkipAlarm(9, cells=["cell"]), SkipAlarm(9, cells=["reduce"])]
    made, *_ = searched(*alarms, max_epochs=1)
    assert [len(alarm.values) for alarm in alarms] == [1, 1]
    assert {"alarm/skips_cell", "alarm/skips_reduce"} <= made.callback_metrics.keys()
