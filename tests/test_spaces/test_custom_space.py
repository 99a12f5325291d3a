"""A user's own module as a space: the example, and one with everything at once."""

import importlib.util
import pickle
import sys
from pathlib import Path

import pytest
from torch import nn

from nas_plugins import SearchSpace
from nas_plugins.rebuild import reference, resolve
from nas_plugins.spaces import SpaceNameError, load
from nas_plugins.testing.spaces import SpaceContract

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_space.py"


class TestExample(SpaceContract):
    input_shape = (1, 8, 8)

    @pytest.fixture
    def space(self):
        spec = importlib.util.spec_from_file_location("custom_space_example", EXAMPLE)
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        return example.space

    def test_kernel_exists_where_any_block_convolves(self, space):
        condition = space.decisions["kernel"].describe_condition()
        assert condition.count("is 'conv'") == 3
        assert space.decisions["block2"].describe_condition() == "'depth' is 3"


class Everything(nn.Module):
    """Nested in nested, a label in two cells, repeats in a repeat and in a candidate."""

    def __init__(self, choose, channels=2):
        super().__init__()

        def conv(kernel):
            return lambda: nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

        def operation(label):
            return choose.layer(label, {"1": conv(1), "3": conv(3), "skip": nn.Identity})

        def cell(prefix):
            return nn.ModuleList(
                [
                    choose.inputs(
                        f"{prefix}/from",
                        {str(j): lambda j=j: operation(f"{prefix}/op{j}") for j in range(3)},
                        num_chosen=2,
                        merge="mean",
                    ),
                    operation("shared"),
                ]
            )

        def norm():
            kinds = {"batch": lambda: nn.BatchNorm2d(channels), "group": groups}
            return choose.layer("norm", kinds)

        def groups():
            return choose.layer(
                "groups", {str(g): lambda g=g: nn.GroupNorm(g, channels) for g in (1, 2)}
            )

        def outer(i):
            inner = choose.repeat(f"inner{i}", lambda j: operation(f"inner{i}/{j}"), [0, 2])
            return nn.Sequential(inner, norm())

        self.stem = nn.Conv2d(3, channels, 1)
        self.first, self.second = cell("first"), cell("second")
        self.body = choose.layer(
            "body",
            {
                "deep": lambda: choose.repeat("outer", outer, (1, 2)),
                "flat": lambda: operation("shared"),
                "wide": lambda: nn.Sequential(norm(), operation("first/op0")),
            },
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))

    def forward(self, x):
        states = [self.stem(x)] * 2
        for merge, last in (self.first, self.second):
            states.append(last(merge([*states, states[-1]][:3])))
        return self.head(self.body(states[-1]))


class TestEverything(SpaceContract):
    num_samples = 200

    @pytest.fixture
    def space(self):
        return SearchSpace.from_network(Everything)

    def test_conditions_are_as_written(self, space):
        conditions = {label: d.describe_condition() for label, d in space.decisions.items()}
        assert conditions["shared"] == "always"
        assert conditions["outer"] == "'body' is 'deep'"
        assert conditions["inner0"] == "'body' is 'deep'"
        assert conditions["inner1"] == "'outer' is 2"
        assert conditions["inner0/1"] == "'inner0' is 2"
        assert conditions["norm"] == "'body' is one of ['deep', 'wide']"
        assert conditions["groups"] == "'norm' is 'group'"
        assert "'body' is 'wide'" in conditions["first/op0"]
        assert "'first/from' is one of ['0+1', '0+2']" in conditions["first/op0"]


# -- a space in a file ------------------------------------------------------------------

SOURCE = """
from torch import nn
from nas_plugins import SearchSpace

class Net(nn.Module):
    def __init__(self, choose):
        super().__init__()
        self.op = choose.layer("op", {"a": nn.Identity, "b": nn.ReLU})

def space():
    return SearchSpace.from_network(Net)
"""


@pytest.fixture
def modules():
    """Modules that a test loads are forgotten after it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_space(folder: Path, name: str = "space_of_mine.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(SOURCE)
    return f"{folder / name}:space"


def test_file_is_loaded_once_so_that_its_classes_pickle(tmp_path, modules, monkeypatch):
    first = load(write_space(tmp_path))
    monkeypatch.chdir(tmp_path)
    second = load("space_of_mine.py:space")
    assert first.network is second.network
    assert pickle.loads(pickle.dumps(first.network)) is first.network


def test_files_of_one_name_are_different_modules(tmp_path, modules):
    first, second = (load(write_space(tmp_path / folder)).network for folder in "ab")
    assert first is not second
    assert [pickle.loads(pickle.dumps(n)) for n in (first, second)] == [first, second]


def test_file_that_fails_is_not_taken_for_loaded(tmp_path, modules):
    name = write_space(tmp_path)
    (tmp_path / "space_of_mine.py").write_text("import no_such_module")
    for _ in range(2):
        with pytest.raises(SpaceNameError, match="no_such_module"):
            load(name)


def test_network_is_named_only_where_others_can_import_it(tmp_path, modules, monkeypatch):
    network = load(write_space(tmp_path)).network
    assert reference(network) is None
    monkeypatch.syspath_prepend(tmp_path)
    assert reference(network) == "space_of_mine:Net"
    assert resolve("space_of_mine:Net") is network
    write_space(tmp_path / "hiding")
    monkeypatch.syspath_prepend(tmp_path / "hiding")
    assert reference(network) is None
    assert reference(nn.Linear) == "torch.nn.modules.linear:Linear"
