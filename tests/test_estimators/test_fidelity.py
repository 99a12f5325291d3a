import numpy as np
import pytest

from nas_plugins.estimators.fidelity import agreement, agreement_by_epoch


def test_by_hand():
    found = agreement([1, 2, 3, 5, 4], [10, 20, 30, 40, 50], top=2)
    assert found.kendall_tau == pytest.approx(0.8)  # 9 pairs of 10 agree
    assert found.top_overlap == 1.0
    assert agreement([1, 2, 3, 4], [4, 3, 2, 1], top=1).top_overlap == 0.0
    assert "Kendall's tau 0.80" in str(found)


def test_scores_that_say_nothing():
    for full in ([5, 4, 3, 2, 1], [1, 2, 3, 4, 5]):
        found = agreement([1] * 5, full, top=2)
        assert (found.kendall_tau, found.top_overlap) == (0.0, pytest.approx(2 / 5))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of a bivariate normal, tau is 2 / pi * asin(rho) (Kendall & Gibbons 1990)."""
    rng = np.random.default_rng(0)
    truth = 2 / np.pi * np.arcsin(0.8)
    held = 0
    for seed in range(40):
        x = rng.standard_normal(60)
        y = 0.8 * x + 0.6 * rng.standard_normal(60)
        low, high = agreement(x, y, num_resamples=100, confidence=0.9, seed=seed).kendall_interval
        held += low <= truth <= high
    assert 32 <= held <= 39  # 36 are expected, with a deviation of 2


def test_later_epochs_rank_better():
    rng = np.random.default_rng(1)
    final = rng.random(50)
    curves = [[f + s * rng.standard_normal() for s in (0.6, 0.2, 0.05)] + [f] for f in final]
    found = agreement_by_epoch([*curves, [0.1, 0.2]], num_resamples=20)
    assert list(found) == [1, 2, 3]
    taus = [a.kendall_tau for a in found.values()]
    assert taus == sorted(taus)
    assert found[1].num == 50  # the short one, which was stopped, is left out


@pytest.mark.parametrize(
    ("cheap", "full", "options", "message"),
    [
        ([1, 2], [1, 2], {}, "at least three"),
        ([1, 2, 3], [1, 2], {}, "as many of both"),
        ([1, 2, float("nan")], [1, 2, 3], {}, "not all finite"),
        ([1, 2, 3], [1, 2, 3], {"top": 4}, "expected 1 to 3"),
        ([1, 2, 3], [1, 2, 3], {"confidence": 95}, "expected it in"),
    ],
)
def test_what_cannot_be_compared_is_named(cheap, full, options, message):
    with pytest.raises(ValueError, match=message):
        agreement(cheap, full, **options)
