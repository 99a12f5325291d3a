"""NetScore by its formula, and in the order that the paper gives published networks."""

import math

import pytest

from nas_plugins.estimators.cost import Cost
from nas_plugins.estimators.netscore import netscore


def of(accuracy, parameters_m, multiply_adds_m):
    return netscore(accuracy, Cost(int(parameters_m * 1e6), int(multiply_adds_m * 1e6), 0))


def test_the_formula():
    assert of(0.5, 4.0, 25.0) == pytest.approx(20 * math.log10(50**2 / (2 * 5)))
    assert of(0.8, 1.0, 1.0) == pytest.approx(20 * math.log10(6400))
    plain = netscore(0.5, Cost(4_000_000, 25_000_000, 0), alpha=1, beta=0, gamma=0)
    assert plain == pytest.approx(20 * math.log10(50))


def test_ranks_published_networks_as_the_paper_does():
    """Accuracies, sizes and work are those of the networks' own papers."""
    ranked = [
        of(0.592, 0.94, 228),  # 1: SqueezeNext-1.0-23v5
        of(0.720, 3.4, 300),  # 3: MobileNetV2
        of(0.644, 4.2, 186),  # 5: MobileNet (1.0-128)
        of(0.672, 4.2, 291),  # 6: MobileNet (1.0-160)
        of(0.691, 4.2, 418),  # 9: MobileNet (1.0-192)
        of(0.750, 8.0, 2870),  # 26: DenseNet-121
        of(0.753, 25.6, 3860),  # 33: ResNet-50
    ]
    assert ranked == sorted(ranked, reverse=True)


@pytest.mark.parametrize(
    ("accuracy", "cost", "message"),
    [
        (71.0, Cost(1, 1, 0), "accuracy is 71.0; expected a share"),
        (0.0, Cost(1, 1, 0), "accuracy is 0.0"),
        (0.5, Cost(0, 1, 0), "divides by size and work"),
    ],
)
def test_what_has_no_score_is_refused(accuracy, cost, message):
    with pytest.raises(ValueError, match=message):
        netscore(accuracy, cost)
