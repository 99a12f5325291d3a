"""A child that was written and read again is the same child."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest
import torch

from lightning_modules import ChildClassifier, DigitsDataModule, train_child
from nas_plugins import Architecture, ArchitectureError, Budget, SearchSpace
from nas_plugins.export import FORMATS, ExportError, export, load_exported
from nas_plugins.rebuild import CheckpointError, read_tensors, resolve
from nas_plugins.spaces import load


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load("nas_bench_201", channels=4, num_cells=1)


@pytest.fixture(scope="module")
def digits() -> DigitsDataModule:
    return DigitsDataModule()


@pytest.fixture(scope="module")
def trained(space, digits, tmp_path_factory) -> tuple[ChildClassifier, float]:
    """A child whose weights are worth keeping, and its validation accuracy."""
    result = train_child(
        space, space.default().replace(**{"cell/3<-0": "nor_conv_3x3"}), digits,
        budget=Budget(epochs=3), directory=tmp_path_factory.mktemp("search"), accelerator="cpu",
    )  # fmt: skip
    return ChildClassifier.load_from_checkpoint(result.checkpoint).eval(), result.score


def accuracy(network, digits: DigitsDataModule) -> float:
    with torch.no_grad():
        hits = [(network(x).argmax(1) == y).float() for x, y in digits.val_dataloader()]
    return torch.cat(hits).mean().item()


def test_child_keeps_outputs_and_accuracy(trained, digits, tmp_path):
    child, score = trained
    files = child.export(tmp_path, formats=["state_dict", "torchscript", "program"])
    names = ["architecture.json", "weights.pt", "model.torchscript", "model.pt2", "network.json"]
    assert [f.name for f in files] == names
    assert Architecture.from_json(files[0]) == child.architecture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.load(str(files[2]))
    images = torch.randn(5, 1, 8, 8)
    for network in (load_exported(tmp_path), script, torch.export.load(files[3]).module()):
        torch.testing.assert_close(network(images), child(images))
        assert accuracy(network, digits) == pytest.approx(score)
    assert score > 0.5


def test_onnx_gives_the_same_logits(trained, tmp_path):
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    child, _ = trained
    path = child.export(tmp_path, formats=["onnx"])[1]
    images = torch.randn(5, 1, 8, 8)
    (logits,) = reference.ReferenceEvaluator(str(path)).run(None, {"images": images.numpy()})
    np.testing.assert_allclose(logits, child(images).detach(), atol=1e-5)


def test_space_and_state_dict_are_enough(space, trained, tmp_path):
    child, _ = trained
    weights = child.network.state_dict()
    export(space, child.architecture, weights, tmp_path, formats=["state_dict"], in_channels=1)
    loaded = load_exported(tmp_path)
    assert not loaded.training
    assert all(torch.equal(v, weights[k]) for k, v in loaded.state_dict().items())


def test_exporting_leaves_the_child_and_the_generator(trained, tmp_path):
    child, _ = trained
    child.train()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    child.export(tmp_path)
    load_exported(tmp_path)
    was_training = child.training
    child.eval()
    assert torch.equal(torch.rand(1), expected)
    assert was_training


# -- what is said of bad input ------------------------------------------------------------


def test_unknown_format_is_named(space, trained, tmp_path):
    child, _ = trained
    with pytest.raises(ExportError, match=r"'coreml'; expected some of \['state_dict'"):
        child.export(tmp_path / "new", formats=["coreml"])
    assert not (tmp_path / "new").exists()
    assert len(FORMATS) == 4


def test_missing_onnx_packages_are_named(trained, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise ModuleNotFoundError("No module named 'onnxscript'")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match="onnxscript.*pip install onnx onnxscript"):
        trained[0].export(tmp_path, formats=["onnx"])


def test_weights_of_another_architecture_are_refused(space, trained, tmp_path):
    child, _ = trained
    other = child.architecture.replace(**{"cell/3<-2": "nor_conv_3x3"})
    with pytest.raises(CheckpointError, match="not those of this architecture's child"):
        export(space, other, child.network, tmp_path, in_channels=1)


def test_architecture_of_another_space_is_refused(space, trained, tmp_path):
    with pytest.raises(ArchitectureError, match="'op'"):
        export(space, {"op": "conv"}, trained[0].network, tmp_path)


def test_incomplete_directory_is_named(trained, tmp_path):
    trained[0].export(tmp_path, formats=["torchscript"])
    with pytest.raises(CheckpointError, match=r"no file .*weights\.pt.*'state_dict'"):
        load_exported(tmp_path)


def test_truncated_weights_are_named(trained, tmp_path):
    path = trained[0].export(tmp_path)[1]
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"weights\.pt cannot be read.*Delete it"):
        load_exported(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"no checkpoint", b"\x80\x02.", b"\x80\x02h\x05.", pickle.dumps([1, 2])],
    ids=["empty", "text", "nothing on the stack", "no such memo", "another pickle"],
)
def test_damaged_weights_are_named_without_advice_to_run_them(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pt .*damaged") as caught:
        read_tensors(path)
    assert "weights_only" not in str(caught.value)


def test_another_format_is_refused_without_advice_to_run_it(trained, tmp_path):
    path = trained[0].export(tmp_path, formats=["torchscript"])[1]
    with pytest.raises(CheckpointError, match="another format") as caught:
        read_tensors(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("file", ["architecture.json", "network.json"])
@pytest.mark.parametrize(
    "content", [b"", b'{"network": nu', b"[]", b"\xff", b'{"network": 1, "options": {}}']
)
def test_damaged_descriptions_are_named(trained, tmp_path, file, content):
    trained[0].export(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
        load_exported(tmp_path)


class Evil:
    def __reduce__(self):
        return print, ("code of the file ran",)


def test_nothing_is_unpickled(trained, tmp_path, capsys):
    path = trained[0].export(tmp_path)[1]
    torch.save({"weights": Evil()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_exported(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("subprocess:run", "neither a subclass of torch.nn.Module nor a function of choose"),
        ("no_such_package:Net", "cannot be imported.*network="),
        ("torch.nn:NoSuchModule", "cannot be imported"),
        ("nonsense", "cannot be imported"),
    ],
)
def test_a_name_in_a_file_leads_to_networks_alone(trained, tmp_path, name, message):
    path = trained[0].export(tmp_path)[-1]
    path.write_text(json.dumps({**json.loads(path.read_text()), "network": name}))
    with pytest.raises(CheckpointError, match=message):
        load_exported(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        resolve(name)


def test_network_without_a_name_is_given_again(trained, tmp_path):
    from nas_plugins.spaces.nas_bench_201 import NASBench201

    class Local(NASBench201):
        pass

    child, _ = trained
    local = SearchSpace.from_network(Local, channels=4, num_cells=1, in_channels=1)
    export(local, child.architecture, child.network, tmp_path)
    with pytest.raises(CheckpointError, match=r"names no network.*network=\.\.\."):
        load_exported(tmp_path)
    loaded = load_exported(tmp_path, network=Local)
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded(images), child(images))
