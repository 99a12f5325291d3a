"""The same strategy with the same seed proposes the same architectures in every host."""

import json

import pytest

from nas_plugins import Architecture
from nas_plugins.strategies import create
from nas_plugins.testing.strategies import conditional_space, toy_score

SEED = 11
NUM_TRIALS = 40
OPTIONS = {"population_size": 8, "sample_size": 3}


def through_nothing(space):
    strategy = create("regularized_evolution", space, seed=SEED, **OPTIONS)
    asked = []
    for _ in range(NUM_TRIALS):
        asked.append(strategy.ask())
        strategy.tell(asked[-1], toy_score(asked[-1]))
    return asked


def through_optuna(space):
    optuna = pytest.importorskip("optuna")
    from nas_plugins.optuna import RegularizedEvolutionSampler, architecture_of, suggest

    study = optuna.create_study(
        direction="maximize", sampler=RegularizedEvolutionSampler(space, seed=SEED, **OPTIONS)
    )
    study.optimize(lambda trial: toy_score(suggest(trial, space)), n_trials=NUM_TRIALS)
    return [architecture_of(trial, space) for trial in study.trials]


def through_nni(space):
    pytest.importorskip("nni")
    from nas_plugins.nni import ArchitectureTuner, architecture_of, to_nni

    tuner = ArchitectureTuner("regularized_evolution", seed=SEED, **OPTIONS)
    tuner.update_search_space(json.loads(json.dumps(to_nni(space))))
    asked = []
    for number in range(NUM_TRIALS):
        parameters = json.loads(json.dumps(tuner.generate_parameters(number)))
        asked.append(architecture_of(space, parameters))
        metric = {"default": toy_score(asked[-1]), "architecture": dict(asked[-1])}
        tuner.receive_trial_result(number, parameters, metric, trial_job_id=f"trial{number}")
    return asked


def through_hpbandster(space):
    pytest.importorskip("hpbandster")
    from hpbandster.core.dispatcher import Job

    from nas_plugins.hpbandster import ArchitectureConfigGenerator

    generator = ArchitectureConfigGenerator(
        "regularized_evolution", space, seed=SEED, strategy_options=OPTIONS, max_budget=1.0
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
