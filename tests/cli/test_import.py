"""`import` with the files that trainers leave: averaged weights are offered, what is not weights is one line."""

import argparse
import dataclasses

import pytest
import torch

from cvx import data, models
from cvx.__main__ import main
from cvx.cli.import_weights import ImportFlags
from cvx.config import TrainConfig
from cvx.store import Store

FLAGS = ["--dataset=digits", "--model=test_resnet", "--stem=timm"]


@pytest.fixture
def theirs(tmp_path, data_root):
    """Write what timm's train.py leaves after training on digits: weights, their average, and how it was called."""
    torch.manual_seed(0)
    splits = data.load("digits", data_root)
    net = models.build("test_resnet", 10, 8, 1, mean=splits.mean, std=splits.std, stem="timm").net
    ema = {key: value + 1 for key, value in net.state_dict().items()}
    content = {
        "arch": "test_resnet",
        "args": argparse.Namespace(lr=0.1),
        "state_dict": net.state_dict(),
        "state_dict_ema": ema,
    }
    torch.save(content, tmp_path / "last.pth.tar")
    return tmp_path / "last.pth.tar", net.state_dict(), ema


@pytest.mark.parametrize("is_averaged", [False, True])
def test_averaged_weights_are_offered_and_taken_when_asked_for(theirs, tmp_path, capsys, is_averaged):
    path, plain, ema = theirs
    key = ["--weights_key=state_dict_ema"] if is_averaged else []
    assert main(["import", *FLAGS, f"--weights={path}", *key]) == 0
    offer = "averaged weights beside those under state_dict: --weights_key=state_dict_ema takes them instead"
    assert (offer in capsys.readouterr().out) is not is_averaged
    loaded, card = Store(tmp_path / "artifacts").resolve("digits-test_resnet").load()
    expected = ema if is_averaged else plain
    assert all(torch.equal(value, expected[name]) for name, value in loaded.net.state_dict().items())
    assert card.config.get("weights_key", "") == ("state_dict_ema" if is_averaged else "")


def test_what_is_no_weights_is_one_line_before_any_data_is_read(tmp_path, capsys):
    (tmp_path / "a.pth").write_text("<!doctype html><title>Sign in</title>")
    assert main(["import", "--dataset=nothing", "--model=test_resnet", f"--weights={tmp_path / 'a.pth'}"]) == 2
    heard = capsys.readouterr().err
    assert "a.pth is a web page" in heard and heard.count("\n") == 1


def test_a_key_of_timms_own_weights_is_refused(capsys):
    assert main(["import", *FLAGS, "--weights=pretrained", "--weights_key=ema"]) == 2
    assert "--weights_key chooses within a file" in capsys.readouterr().err


def test_the_flags_of_import_are_these_and_none_means_another_thing_in_a_recipe():
    names = {field.name for field in dataclasses.fields(ImportFlags)}
    own = {"artifacts", "data", "weights", "weights_key", "name", "mean", "std"}
    recipe = {"dataset", "model", "image_size", "val_fraction", "stem", "patch_size"}
    assert names == own | recipe
    assert names & {field.name for field in dataclasses.fields(TrainConfig)} == recipe
