"""What models predict for all samples, which the strips of errors and disagreements go by."""

import json

import numpy as np
import pytest
import torch
from small_store import add_model, cut_weights, make_splits, make_store

from cvx.store import Store
from cvx.store.runs import RunWriter
from demo.backend.service import ModelService
from demo.components.image_picker import filters
from demo.state.selection import Pick

SPLITS = make_splits("tiles", 40, 16, 3, True)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "artifacts")


def predicted(store, name):
    """Ask a stored model about all samples, without any of the demo."""
    classifier, _ = store.resolve(name).load()
    inputs = torch.tensor(np.asarray(SPLITS.test.images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return classifier(inputs).argmax(dim=1).numpy()


def asked(store, column="vit_tiny"):
    service = ModelService(store.root)
    shown = service.catalog().datasets["tiles"]
    return service.classify(shown.columns[column], shown.samples)


def record(store, name, preds, ids=SPLITS.test.ids, **config):
    """Record a run that ended with the model `name`, and with these predictions."""
    card = store.resolve(name).card
    writer = RunWriter.create(store.root / "runs" / card.run, {"format": 1, "config": {**card.config, **config}})
    logits = np.eye(len(card.classes), dtype=np.float32)[preds]
    writer.embeddings("test", 1, ids=ids, labels=SPLITS.test.labels[: len(ids)], logits=logits)
    writer.finish({"format": 1, "metrics": card.metrics})


def test_every_sample_is_asked_about_once_and_the_answer_outlives_the_server(store):
    assert np.array_equal(asked(store), predicted(store, "tiles-vit_tiny"))
    (kept,) = (store.root / "measures" / "predictions").glob("*.npz")
    cut_weights(store.resolve("tiles-vit_tiny"))
    assert np.array_equal(asked(store), np.load(kept)["preds"])


def test_what_a_run_recorded_of_the_same_samples_is_believed_and_the_model_not_even_loaded(store):
    preds = np.arange(40) % 4
    record(store, "tiles-vit_tiny", preds)
    cut_weights(store.resolve("tiles-vit_tiny"))
    assert np.array_equal(asked(store), preds)
    assert not (store.root / "measures").exists()


@pytest.mark.parametrize("unlike", ["samples", "config", "metrics", "damaged", "classes"])
def test_a_record_of_anything_else_is_not_believed(store, unlike):
    preds = (predicted(store, "tiles-vit_tiny") + 1) % 4
    record(store, "tiles-vit_tiny", preds, **({"lr": 7} if unlike == "config" else {}))
    folder = store.root / "runs" / store.resolve("tiles-vit_tiny").card.run
    file, content = folder / "embeddings" / "test.npz", {}
    with np.load(file) as stored:
        content = dict(stored)
    if unlike == "samples":
        content["ids"] = content["ids"][::-1]
    if unlike == "classes":
        content["logits"] = content["logits"][:, :3]
    np.savez(file, **content)
    if unlike == "damaged":
        file.write_bytes(b"?")
    if unlike == "metrics":
        (folder / "summary.json").write_text(json.dumps({"format": 1, "metrics": {"test/acc1": 0.1}}))
    assert np.array_equal(asked(store), predicted(store, "tiles-vit_tiny"))


def test_errors_are_found_among_all_samples_however_many_there_are(tmp_path):
    splits = make_splits("tiles", 700, 8, 1, False)
    store = Store(tmp_path / "artifacts")
    store.add_samples(splits)
    entry = add_model(store, splits, "test_resnet")
    preds = splits.test.labels.copy()
    preds[[3, 650]] = (preds[[3, 650]] + 1) % 4
    writer = RunWriter.create(store.root / "runs" / entry.card.run, {"format": 1, "config": entry.card.config})
    logits = np.eye(4, dtype=np.float32)[preds]
    writer.embeddings("test", 1, ids=splits.test.ids, labels=splits.test.labels, logits=logits)
    writer.finish({"format": 1, "metrics": entry.card.metrics})
    service = ModelService(store.root)
    shown = service.catalog().datasets["tiles"]
    ask = filters.asker(service, ["test_resnet"])
    assert filters.rows_of(shown, Pick(which="wrong"), ask).tolist() == [3, 650]


def test_a_store_that_cannot_be_written_is_asked_all_the_same(store):
    (store.root / "measures").write_text("in the way")
    assert np.array_equal(asked(store), predicted(store, "tiles-vit_tiny"))
