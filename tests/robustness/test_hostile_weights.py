"""Other people's checkpoints do nothing when they are read: what is not allowed is named, what is allowed is inert."""

import argparse
import collections
import os
import pathlib
import pickle

import numpy as np
import pytest
import torch

from cvx.models import foreign_weights

RAN = []


def written(folder, content, **options):
    torch.save(content, folder / "a.pth", **options)
    return folder / "a.pth"


class Reduced:
    """Pickles as any call with any state."""

    def __init__(self, *how):
        self.how = how

    def __reduce__(self):
        return self.how


def run(*args):
    RAN.append(args)


ODD_CALLS = [
    (argparse.Namespace, (1, {"a": 2}, run.__name__)),
    (pathlib.PurePosixPath, (b"bytes", 3, None)),
    (np.dtype, ("O", False, True), (3, "|", None, ("a",), {"a": ("O", 1 << 40)}, 1 << 50, 1, 63)),
    (np.dtype("V8").__reduce__()[0], ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 63)),
    (np.float64(1).__reduce__()[0], (np.dtype("O"), b"\x41" * 8)),
    (np.arange(2).__reduce__()[0], (np.ndarray, (1 << 40,), b"b"), (1, (1 << 40,), np.dtype("O"), False, b"\x41" * 8)),
    (argparse.Namespace, (), {"__class__": 1, "__setstate__": 2, "__dict__": {}}),
    (
        argparse.Namespace,
        (),
        (None, {"__class__": collections.OrderedDict, "__setstate__": torch.Size, "__reduce__": 1}),
    ),
    (pathlib.PurePosixPath, (), (None, {"_str": 1, "__class__": collections.OrderedDict})),
]


@pytest.mark.parametrize("how", ODD_CALLS, ids=lambda how: f"{how[0].__name__}-{len(how)}")
def test_an_allowed_class_does_nothing_whatever_arguments_and_state_a_file_gives_it(tmp_path, how):
    path = written(tmp_path, {"model": {"w": torch.ones(2)}, "args": Reduced(*how)})
    before = set(torch.serialization.get_safe_globals())
    assert foreign_weights.read(path).state["w"].tolist() == [1, 1]
    assert set(torch.serialization.get_safe_globals()) == before  # what is allowed here is allowed nowhere else


def test_nothing_that_a_file_names_is_made_but_tensors_and_plain_values(tmp_path):
    path = written(tmp_path, {"args": [argparse.Namespace(a=1), np.dtype("f8"), pathlib.Path("a"), np.float32]})
    values = foreign_weights._unpickle(path)["args"]
    assert {value if isinstance(value, type) else type(value) for value in values} == {foreign_weights._Ignored}
    assert not any(hasattr(value, "__dict__") for value in values[:3])


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ((run, (1,)), f"{__name__}.run"),
        ((open, ("executed", "w")), "open"),
        ((os.system, ("touch executed",)), "system"),
        ((eval, ("1",)), "eval"),
        ((getattr, (argparse.Namespace(), "x")), "getattr"),
        ((argparse.Namespace, (), {"x": run}), f"{__name__}.run"),
        ((argparse.Namespace, (Reduced(run, (1,)),)), f"{__name__}.run"),
        ((argparse.ArgumentParser, ()), "argparse.ArgumentParser"),
        ((pickle.loads, (b"",)), "loads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_class_that_is_not_allowed_is_named_in_one_plain_line_and_does_not_run(
    tmp_path, monkeypatch, how, named, zipped
):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, {"model": {"w": torch.ones(2)}, "x": Reduced(*how)}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="cvx runs no code from a checkpoint") as caught:
        foreign_weights.read(path)
    said = str(caught.value)
    assert f"{named}, which is not allowed" in said and said.isprintable() and "add_safe_globals" not in said
    assert not RAN and not (tmp_path / "executed").exists()


def test_a_plain_pickle_is_refused_and_does_not_run(tmp_path):
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Reduced(run, (1,))))
    with pytest.raises(ValueError, match="cvx runs no code from a checkpoint"):
        foreign_weights.read(tmp_path / "b.pth")
    assert not RAN


def test_a_name_with_escape_codes_reaches_no_terminal(tmp_path):
    path = written(tmp_path, {"\x1b[31mred": {"w": torch.ones(1)}, "x" * 10_000: 1})
    with pytest.raises(ValueError) as caught:
        foreign_weights.read(path)
    assert str(caught.value).isprintable() and "?[31mred" in str(caught.value) and len(str(caught.value)) < 1000
