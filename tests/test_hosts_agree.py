"""The same strategy with the same seed proposes the same architectures in every host."""

import json

import numpy as np
import pytest

from nas_plugins import Architecture
from nas_plugins.prior import Prior
from nas_plugins.strategies import create
from nas_plugins.testing.strategies import conditional_space, toy_score

SEED = 11
NUM_TRIALS = 40
OPTIONS = {"population_size": 8, "sample_size": 3}
SAMPLERS = {
    "predictor": "PredictorSampler",
    "regularized_evolution": "RegularizedEvolutionSampler",
    "supernet_prior": "SupernetSampler",
}


def through_nothing(space, name="regularized_evolution", options=OPTIONS):
    strategy = create(name, space, seed=SEED, **options)
    asked = []
    for _ in range(NUM_TRIALS):
        asked.append(strategy.ask())
        strategy.tell(asked[-1], toy_score(asked[-1]))
    return asked


def through_optuna(space, name="regularized_evolution", options=OPTIONS):
    optuna = pytest.importorskip("optuna")
    import nas_plugins.optuna as ours
    from nas_plugins.optuna import architecture_of, suggest

    sampler = getattr(ours, SAMPLERS[name])(space, seed=SEED, **options)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: toy_score(suggest(trial, space)), n_trials=NUM_TRIALS)
    return [architecture_of(trial, space) for trial in study.trials]


def through_nni(space, name="regularized_evolution", options=OPTIONS):
    pytest.importorskip("nni")
    from nas_plugins.nni import ArchitectureTuner, architecture_of, to_nni

    tuner = ArchitectureTuner(name, seed=SEED, **options)
    tuner.update_search_space(json.loads(json.dumps(to_nni(space))))
    asked = []
    for number in range(NUM_TRIALS):
        parameters = json.loads(json.dumps(tuner.generate_parameters(number)))
        asked.append(architecture_of(space, parameters))
        metric = {"default": toy_score(asked[-1]), "architecture": dict(asked[-1])}
        tuner.receive_trial_result(number, parameters, metric, trial_job_id=f"trial{number}")
    return asked


def through_hpbandster(space, name="regularized_evolution", options=OPTIONS):
    pytest.importorskip("hpbandster")
    from hpbandster.core.dispatcher import Job

    from nas_plugins.hpbandster import ArchitectureConfigGenerator

    generator = ArchitectureConfigGenerator(
        name, space, seed=SEED, strategy_options=options, max_budget=1.0
    )
    asked = []
    for number in range(NUM_TRIALS):
        config, _ = generator.get_config(1.0)
        asked.append(Architecture(config))
        job = Job((0, 0, number), config=config, budget=1.0)
        job.result = {"loss": 1.0 - toy_score(asked[-1]), "info": {}}
        job.timestamps = {"submitted": 0.0, "started": 0.0, "finished": 0.0}
        generator.new_result(job)
    return asked


@pytest.mark.parametrize("host", [through_optuna, through_nni, through_hpbandster])
def test_same_sequence(host):
    space = conditional_space()
    assert host(space) == through_nothing(space)


@pytest.mark.parametrize("host", [through_optuna, through_nni, through_hpbandster])
def test_same_sequence_of_a_model(host):
    """Its matrix products may differ in the last bits."""
    space, options = conditional_space(), {"num_candidates": 50}
    assert host(space, "predictor", options) == through_nothing(space, "predictor", options)


def prior_file(space, path):
    rng = np.random.default_rng(0)
    cells = [space.sample(rng) for _ in range(20)]
    prior = Prior([(toy_score(cell), cell) for cell in cells], {"0/op": {"conv": 0.9, "pool": 0.1}})
    return str(prior.write(path))


@pytest.mark.parametrize("host", [through_optuna, through_nni, through_hpbandster])
def test_same_sequence_from_a_prior(host, tmp_path):
    """What a supernet's search found is data: every host reads it from the same file."""
    space = conditional_space()
    options = {
        "prior": prior_file(space, tmp_path / "prior.json"),
        "inner_options": OPTIONS,
        "num_initial": 5,
        "prior_weight": 10.0,
        "num_candidates": 3,
    }
    asked = host(space, "supernet_prior", options)
    assert asked == through_nothing(space, "supernet_prior", options)
    assert asked[:5] == [cell for _, cell in Prior.of(options["prior"]).scores[:5]]
