import numpy as np
import pytest

from nas_plugins.estimators.stretch_move import stretch_chains

MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[1.0, 0.9], [0.9, 4.0]])


def normal(rows):
    distance = rows - MEAN
    return -0.5 * np.einsum("ri,ij,rj->r", distance, np.linalg.inv(COVARIANCE), distance)


def chains(density, num_steps=2000, **options):
    rng = np.random.default_rng(0)
    start = np.abs(rng.standard_normal((40, 2)))
    return stretch_chains(density, start, num_steps, rng, burn_in=200, **options)


def test_moments_are_those_of_the_density():
    samples = chains(normal)
    assert samples.shape == (40 * 1800, 2)
    assert samples.mean(axis=0) == pytest.approx(MEAN, abs=0.06)
    assert np.cov(samples.T) == pytest.approx(COVARIANCE, abs=0.15)


def test_another_stretch_samples_the_same_density():
    """The factor for the stretch in the acceptance is what makes this so."""
    samples = chains(normal, scale=4.0)
    assert np.cov(samples.T) == pytest.approx(COVARIANCE, abs=0.2)


def test_nobody_goes_where_nothing_is():
    samples = chains(lambda rows: np.where(rows[:, 0] > 0, normal(rows), -np.inf), thin=5)
    assert len(samples) == 40 * 360
    assert (samples[:, 0] > 0).all()
    # The mean of a standard normal around 1 that is cut off at 0.
    assert samples[:, 0].mean() == pytest.approx(1 + 0.24197 / 0.84134, abs=0.1)
