"""A stored model comes back as it was, or is refused with a reason; nothing in it is ever executed."""

import dataclasses
import json
import pickle

import pytest
import torch

from cvx import checkpoint, models
from cvx.checkpoint import Card, DamagedError, load, load_foreign, read_card, read_foreign, save


def make_card(classifier, **changes):
    build = classifier.build_args
    card = Card(
        name="digits-resnet18",
        dataset="digits",
        model="resnet18",
        build=build,
        classes=("a", "b", "c"),
        image_size=8,
        in_chans=1,
        mean=tuple(build["mean"]),
        std=tuple(build["std"]),
        metrics={"val/acc1": 0.5},
    )
    return dataclasses.replace(card, **changes)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return models.build("resnet18", 3, 8, 1, mean=(0.3,), std=(0.2,), stem="timm")


@pytest.fixture
def stored(tmp_path, classifier):
    folder = tmp_path / "v0"
    folder.mkdir()
    save(folder, classifier, make_card(classifier))
    return folder


def test_a_stored_model_gives_the_same_logits_with_no_config_at_hand(stored, classifier):
    loaded, card = load(stored)
    inputs = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(inputs), classifier.eval()(inputs), rtol=0, atol=0)
    assert not loaded.training
    assert card.classes == ("a", "b", "c")
    assert card.num_params == sum(p.numel() for p in classifier.parameters())


def test_channels_last_weights_are_stored_and_come_back(tmp_path, classifier):
    moved = classifier.to(memory_format=torch.channels_last)
    save(tmp_path, moved, make_card(classifier))
    loaded, _ = load(tmp_path)
    for key, value in moved.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_a_flipped_bit_in_the_weights_is_noticed(stored):
    path = stored / checkpoint.WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="not the file its card describes"):
        load(stored)


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.CARD])
@pytest.mark.parametrize("damage", ["truncate", "empty", "delete"])
def test_a_damaged_file_is_named(stored, name, damage):
    path = stored / name
    if damage == "delete":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
    with pytest.raises(DamagedError, match=name.replace(".", r"\.")):
        load(stored)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ["only one"]},
        {"classes": "abc"},
        {"image_size": -1},
        {"image_size": "8"},
        {"std": [0.0]},
        {"mean": [0.1, 0.2, 0.3]},
        {"in_chans": 7},
        {"build": {}},
        {"build": {"name": "resnet18", "num_classes": 3, "nonsense": 1}},
        {"build": {"name": "no_such_model", "num_classes": 3, "image_size": 8}},
        {"metrics": []},
        {"sha256": None},
    ],
)
def test_a_tampered_card_is_refused_and_says_why(stored, changes):
    path = stored / checkpoint.CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DamagedError):
        load(stored)


def test_a_card_that_names_another_architecture_is_refused(stored):
    path = stored / checkpoint.CARD
    content = json.loads(path.read_text())
    content["build"]["name"] = "resnet34"
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedError, match="does not fit the model"):
        load(stored)


def test_a_card_of_a_later_cvx_with_more_fields_is_still_read(stored):
    path = stored / checkpoint.CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"field_of_tomorrow": 1}))
    assert read_card(stored).name == "digits-resnet18"


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path):
    proof = tmp_path / "executed"
    torch.save({"state_dict": Bomb(proof)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Bomb(proof)))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ValueError, match="cvx runs no code"):
            read_foreign(tmp_path / name)
    assert not proof.exists()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_the_usual_wrappings_of_a_state_dict_are_taken_off(tmp_path, classifier, wrapper, prefix):
    state = {prefix + key: value for key, value in classifier.net.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "a.pth")
    other = models.build("resnet18", 3, 8, 1, stem="timm")
    load_foreign(other, read_foreign(tmp_path / "a.pth"))
    assert torch.equal(other.net.conv1.weight, classifier.net.conv1.weight)


def test_weights_of_another_model_are_refused_with_the_first_misfits(classifier):
    state = classifier.net.state_dict()
    fitted = models.build("resnet18", 3, 8, 1)
    with pytest.raises(ValueError, match=r"conv1\.weight has shape .*--stem=timm"):
        load_foreign(fitted, state)
    with pytest.raises(ValueError, match="missing conv1.weight"):
        load_foreign(fitted, {"x": torch.zeros(1)})


def test_weights_that_are_not_finite_are_refused(classifier):
    state = {key: value.clone() for key, value in classifier.net.state_dict().items()}
    state["fc.bias"][0] = float("nan")
    with pytest.raises(ValueError, match=r"not finite, first in fc\.bias"):
        load_foreign(models.build("resnet18", 3, 8, 1, stem="timm"), state)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_a_file_that_holds_no_weights_is_named(tmp_path, content):
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\{suffix}"):
            read_foreign(path)


@pytest.mark.slow
def test_a_full_disk_is_an_os_error_and_leaves_no_half_file(tmp_path, classifier):
    import resource
    import subprocess
    import sys

    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import torch; from pathlib import Path; from cvx.checkpoint import write_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: write_tensors(Path(sys.argv[1]), {'x': torch.zeros(1 << 20)})\n"
        "except OSError as error: print('said:', error)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    target = tmp_path / "full" / "a.safetensors"
    answer = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert "said:" in answer.stdout and "a.safetensors" in answer.stdout
    assert list(target.parent.iterdir()) == []
