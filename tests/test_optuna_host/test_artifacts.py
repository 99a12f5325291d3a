"""Drawings reach optuna-dashboard: asked through its own HTTP routes, on no port at all."""

from __future__ import annotations

import io
import json

import numpy as np
import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, download_artifact, get_all_artifact_meta

from nas_plugins import ArchitectureError, spaces
from nas_plugins.drawing import draw
from nas_plugins.optuna import suggest
from nas_plugins.optuna.artifacts import upload_drawing

SPACE = spaces.load("nas_bench_201", num_cells=1)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "artifacts").mkdir()
    return FileSystemArtifactStore(tmp_path / "artifacts")


def test_artifact_is_the_drawing(tmp_path, store):
    study = optuna.create_study()
    trial = study.ask()
    architecture = suggest(trial, SPACE)
    artifact = upload_drawing(trial, SPACE, architecture, store)
    (meta,) = get_all_artifact_meta(trial)
    assert (meta.artifact_id, meta.mimetype) == (artifact, "image/svg+xml")
    assert meta.filename == f"{architecture.id}.svg"
    back = tmp_path / "back.svg"
    download_artifact(artifact_store=store, file_path=str(back), artifact_id=artifact)
    assert back.read_bytes() == draw(SPACE, architecture, tmp_path / "own.svg").read_bytes()


def test_dashboard_serves_it(tmp_path, store):
    dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage)
    architecture = SPACE.sample(np.random.default_rng(0))
    trial = study.ask()
    artifact = upload_drawing(trial, SPACE, architecture, store, kind="png", title="of a trial")
    study.tell(trial, 0.5)
    upload_drawing(study, SPACE, architecture, store)

    app = dashboard.wsgi(storage, artifact_store=store)
    study_id = study._study_id
    shown = json.loads(_get(app, f"/api/studies/{study_id}"))
    ((of_trial,), (of_study,)) = shown["trials"][0]["artifacts"], shown["artifacts"]
    assert of_trial["filename"] == f"{architecture.id}.png"
    assert of_study["filename"] == f"{architecture.id}.svg"
    served = _get(app, f"/artifacts/{study_id}/{trial._trial_id}/{artifact}")
    expected = draw(SPACE, architecture, tmp_path / "own.png", title="of a trial")
    assert served == expected.read_bytes()


def _get(app, path):
    status = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    body = b"".join(app(environ, lambda line, headers, *rest: status.append(line)))
    assert status[0].startswith("200"), (path, status, body)
    return body


def test_refusals_leave_nothing_behind(store, tmp_path):
    trial = optuna.create_study().ask()
    with pytest.raises(ValueError, match="'jpg'.*png"):
        upload_drawing(trial, SPACE, SPACE.default(), store, kind="jpg")
    with pytest.raises(ArchitectureError, match="lacks a choice"):
        upload_drawing(trial, SPACE, {}, store)
    assert not list((tmp_path / "artifacts").iterdir())
    assert not get_all_artifact_meta(trial)
