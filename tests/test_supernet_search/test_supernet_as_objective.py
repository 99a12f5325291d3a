"""A trained supernet is the objective of every host's search, by the documented recipes."""

import json
from functools import partial

import pytest
from tiny_search import images, tiny_space, trainer

from lightning_modules import DatasetDataModule, SearchDataModule, SupernetClassifier

SPACE = tiny_space()
DATA = DatasetDataModule(images(64, 0), images(32, 1), images(32, 2), batch_size=16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("supernet") / "supernet.ckpt"
    made = trainer(max_epochs=1)
    module = SupernetClassifier(SPACE, "uniform")
    made.fit(module, SearchDataModule(DATA))
    made.save_checkpoint(path)
    return path


def scorer(path):
    module = SupernetClassifier.load_from_checkpoint(path, network=SPACE)
    return module.one_shot_score(DATA)


def one_shot(architecture, budget, *, path):
    return scorer(path)(architecture)


def test_in_optuna(checkpoint):
    optuna = pytest.importorskip("optuna")
    from nas_plugins.optuna import architecture_of, suggest

    score = scorer(checkpoint)
    study = optuna.create_study(direction="maximize")
    study.optimize(lambda trial: score(suggest(trial, SPACE)), n_trials=3)
    for trial in study.trials:
        assert trial.value == score(architecture_of(trial, SPACE))


def test_in_a_worker_of_hpbandster(checkpoint, tmp_path):
    pytest.importorskip("hpbandster")
    from nas_plugins.hpbandster import ArchitectureWorker

    worker = ArchitectureWorker(SPACE, run_id="test", evaluate=partial(one_shot, path=checkpoint))
    result = worker.compute((0, 0, 0), SPACE.default(), 9.0, str(tmp_path))
    assert result["loss"] == 1.0 - scorer(checkpoint)(SPACE.default())


def test_in_a_trial_of_nni(checkpoint, monkeypatch):
    nni = pytest.importorskip("nni")
    from nas_plugins.nni import parameters_of, receive_architecture, report_score

    wanted = SPACE.default()
    parameters = json.loads(json.dumps(parameters_of(SPACE, wanted)))
    reported = []
    monkeypatch.setattr(nni, "get_next_parameter", lambda: parameters)
    monkeypatch.setattr(nni, "report_final_result", reported.append)
    architecture = receive_architecture(SPACE)
    report_score(architecture, scorer(checkpoint)(architecture))
    assert reported[0]["default"] == scorer(checkpoint)(wanted)
    assert reported[0]["architecture"] == dict(wanted)
