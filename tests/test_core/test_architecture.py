"""Architectures are values: immutable, hashable, JSON in and out."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from nas_plugins import Architecture, ArchitectureError


def test_equal_whatever_the_order():
    first, second = Architecture({"a": 1, "b": "x"}), Architecture({"b": "x", "a": 1})
    assert first == second
    assert hash(first) == hash(second)
    assert first.id == second.id
    assert first != Architecture({"a": 2, "b": "x"})


def test_json_round_trip_keeps_types(tmp_path):
    architecture = Architecture({"flag": True, "one": 1, "rate": 0.1, "op": "conv_3×3"})
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert [type(c) for c in again.values()] == [type(again[k]) for k in again]
    assert type(again["flag"]) is bool
    path = tmp_path / "architecture.json"
    path.write_text(architecture.to_json(indent=2), encoding="utf-8")
    assert Architecture.from_json(path) == architecture


def test_numpy_scalars_become_plain():
    architecture = Architecture(
        {"s": np.str_("x"), "i": np.int64(3), "f": np.float64(0.5), "b": np.bool_(True)}
    )
    assert [type(c) for c in architecture.values()] == [str, int, float, bool]
    json.dumps(dict(architecture))


def test_is_immutable():
    architecture = Architecture({"a": 1})
    with pytest.raises(TypeError):
        architecture["a"] = 2
    assert architecture.replace(a=2) == Architecture({"a": 2})
    assert architecture["a"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[1, 2]", "holds a list; expected an object"),
        ('{"a": [1]}', r"choice at 'a' is \[1\] of type list"),
        ('{"a": NaN}', "choice at 'a' is nan; expected a finite number"),
    ],
)
def test_json_that_is_no_architecture(text, words):
    with pytest.raises(ArchitectureError, match=words):
        Architecture.from_json(text)


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "cut_off.json"
    path.write_text('{"a": "con')
    with pytest.raises(ArchitectureError, match="cut_off.json is not valid JSON"):
        Architecture.from_json(path)


def test_the_type_is_part_of_a_choice():
    assert Architecture({"a": 1}) != Architecture({"a": 1.0})
    assert Architecture({"a": 1}) != Architecture({"a": True})


def test_is_found_in_sets_of_another_process():
    script = (
        "import pickle, sys\n"
        "from nas_plugins import Architecture\n"
        "architecture = Architecture({'op': 'conv'})\n"
        "hash(architecture)\n"
        "sys.stdout.buffer.write(pickle.dumps(architecture))"
    )
    made = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        check=True,
    )
    assert pickle.loads(made.stdout) in {Architecture({"op": "conv"})}


def test_labels_are_strings():
    with pytest.raises(ArchitectureError, match="label 3 is a int"):
        Architecture({3: "x"})
