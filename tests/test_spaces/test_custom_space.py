"""A user's own module as a space: the example, and one with everything at once."""

import importlib.util
from pathlib import Path

import pytest
from torch import nn

from nas_plugins import SearchSpace
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
