"""A stored model comes back as it was, or is refused with a reason."""

import json

import pytest
import torch
from small_cards import make_card

from cvx import models
from cvx.store import checkpoint
from cvx.store.checkpoint import DamagedError, load, read_card, save


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


@pytest.mark.slow
def test_a_full_disk_is_an_os_error_and_leaves_no_half_file(tmp_path, classifier):
    import resource
    import subprocess
    import sys

    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import torch; from pathlib import Path; from cvx.store.checkpoint import write_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: write_tensors(Path(sys.argv[1]), {'x': torch.zeros(1 << 20)})\n"
        "except OSError as error: print('said:', error)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    target = tmp_path / "full" / "a.safetensors"
    answer = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True)
    assert "said:" in answer.stdout and "a.safetensors" in answer.stdout
    assert list(target.parent.iterdir()) == []
