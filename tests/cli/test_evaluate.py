"""`python -m cvx evaluate`: the numbers, and whether they are those on the card."""

import dataclasses

import numpy as np
import pytest
import torch

from cvx import data, models
from cvx.__main__ import main
from cvx.store import Store
from cvx.store.checkpoint import Card


@pytest.fixture(scope="module")
def splits(data_root):
    return data.load("digits", data_root)


@pytest.fixture(scope="module")
def classifier(splits):
    torch.manual_seed(0)
    return models.build("resnet10t", 10, 8, 1, mean=splits.mean, std=splits.std).eval()


@pytest.fixture(scope="module")
def truth(splits, classifier):
    """The numbers of the test split, worked out by hand."""
    inputs = torch.from_numpy(np.array(splits.test.images)).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(np.array(splits.test.labels))
    with torch.no_grad():
        logits = classifier(inputs)
    hits = logits.topk(5).indices == labels[:, None]
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    per_class = [hits[labels == k, 0].float().mean().item() for k in range(10)]
    return {
        "loss": loss,
        "acc1": hits[:, 0].float().mean().item(),
        "acc5": hits.any(1).float().mean().item(),
    }, per_class


def card_of(splits, classifier, numbers):
    return Card(
        name="digits-net",
        dataset="digits",
        model="net",
        build=classifier.build_args,
        classes=splits.classes,
        image_size=8,
        in_chans=1,
        mean=splits.mean,
        std=splits.std,
        fingerprint=splits.fingerprint,
        metrics={f"test/{name}": value for name, value in numbers.items()},
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


def run(capsys, store, data_root, *argv):
    code = main(["evaluate", *argv, f"--artifacts={store.root}", f"--data={data_root}", "--device=cpu"])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_numbers_stand_beside_the_cards_and_agree(store, data_root, capsys, splits, classifier, truth):
    numbers, per_class = truth
    store.add_model(classifier, card_of(splits, classifier, numbers))
    code, out, err = run(capsys, store, data_root, "digits-net")
    assert code == 0 and not err and "the numbers are those on the card" in out
    rows = {line.split()[1]: line.split() for line in out.splitlines() if line.startswith("│")}
    for name, value in numbers.items():
        assert float(rows[name][3]) == pytest.approx(value, abs=2e-4)
        assert float(rows[name][5]) == pytest.approx(value, abs=1e-4)
    for k, value in enumerate(per_class):
        assert float(rows[splits.classes[k]][3]) == pytest.approx(value, abs=1e-4)


def test_a_card_that_does_not_tell_the_truth_is_found_out(store, data_root, capsys, splits, classifier, truth):
    store.add_model(classifier, card_of(splits, classifier, truth[0] | {"acc1": 0.99}))
    code, out, err = run(capsys, store, data_root, "digits-net")
    assert code == 1 and "these differ from the card by more than 0.001: acc1" in err
    assert "the numbers are those on the card" not in out


def test_other_data_than_the_model_was_trained_on_is_said_plainly(store, data_root, capsys, splits, classifier, truth):
    card = dataclasses.replace(card_of(splits, classifier, truth[0]), fingerprint="0123456789abcdef")
    store.add_model(classifier, card)
    code, out, err = run(capsys, store, data_root, "digits-net")
    assert code == 0 and "warning: digits" in err and "is not the data that digits-net:v0 was trained on" in err
    assert "the numbers are those on the card" not in out


def test_a_split_that_the_card_says_nothing_about_is_scored_all_the_same(
    store, data_root, capsys, splits, classifier, truth
):
    store.add_model(classifier, card_of(splits, classifier, truth[0]))
    code, out, _ = run(capsys, store, data_root, "digits-net", "--split=val")
    assert code == 0 and "the card records no numbers of this split" in out and f"{len(splits.val)} images" in out


def test_a_dataset_with_other_classes_is_an_error(store, data_root, capsys, splits, classifier, truth):
    classes = tuple(f"class {k}" for k in range(10))
    store.add_model(classifier, dataclasses.replace(card_of(splits, classifier, truth[0]), classes=classes))
    code, _, err = run(capsys, store, data_root, "digits-net")
    assert code == 2 and "has other classes than digits-net:v0 was trained on" in err


def test_an_unknown_model_is_one_line(store, data_root, capsys):
    code, _, err = run(capsys, store, data_root, "digits-net")
    assert code == 2 and "no model 'digits-net'" in err and err.count("\n") == 1
