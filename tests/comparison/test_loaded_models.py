"""Each card is read and each model loaded once per command, within a bound, and the results are those of names."""

from collections import Counter

import pytest
import torch
from small_store import make_store

from cvx import comparison
from cvx.__main__ import main
from cvx.comparison import LoadedModels, Options, share_models
from cvx.comparison.request import resolve_models
from cvx.report import fill, read_store
from cvx.store import Store, checkpoint
from cvx.store.read_once import ReadOnce

PAIR = ["tiles-resnet10t", "tiles-vit_tiny"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def counted(monkeypatch):
    """Count, by model, how often its card is read and its weights are loaded."""
    reads, loads = Counter(), Counter()
    read, load = checkpoint.read_card, checkpoint.load

    def counting_read(folder):
        reads[folder.parent.name] += 1
        return read(folder)

    def counting_load(folder, *rest):
        loads[folder.parent.name] += 1
        return load(folder, *rest)

    monkeypatch.setattr(checkpoint, "read_card", counting_read)
    monkeypatch.setattr(checkpoint, "load", counting_load)
    return reads, loads


def test_all_measures_read_each_card_and_load_each_model_once(store, counted, capsys):
    flags = (f"--artifacts={store.root}", "--device=cpu", "--num=3", "--num_often=1", "--wandb=off")
    assert main(["compare", *PAIR, "--measures=all", *flags]) == 0
    said = capsys.readouterr()
    assert said.err.count("left out: ") == 2  # these models have no runs: training and embeddings
    folder = next((store.root / "compare").iterdir())
    measured = ("agreement", "properties", "localization", "faithfulness", "sanity", "stability")
    assert {f"{kind}.csv" for kind in measured} <= {path.name for path in folder.iterdir()}
    once = dict.fromkeys(PAIR, 1)
    assert [dict(count) for count in counted] == [once, once]


def test_a_report_reads_each_card_and_loads_each_model_once(store, counted):
    study = read_store.read(ReadOnce(store.root), num=4, num_often=1, budget_s=1e9)
    fill.fill(study, only=("lesson", "agreement", "classes", "stability"))
    names = {entry.name for entry in store.best()}
    reads, loads = ({name: count[name] for name in names} for count in counted)
    assert loads == dict.fromkeys(names, 1)
    assert reads == dict.fromkeys(names, 2)  # the second by this test's own list


def test_resolved_models_give_what_names_give(store):
    models = share_models(store, PAIR, Options(num=10))
    assert [one.options.num for one in models] == [10, 10]
    for measure in (comparison.properties, comparison.localization):
        found, expected = (measure(store, given, Options(num=4)).rows() for given in (models, PAIR))
        assert str(found) == str(expected)  # chance is nan in both
    assert len(resolve_models(store, models, Options(num=4))[0].split) == 4


def test_models_that_were_resolved_for_other_images_are_resolved_anew(store):
    models = share_models(store, PAIR, Options(num=3))
    for options in (Options(num=5), Options(num=3, samples="dots", target="pred")):
        found, expected = (resolve_models(store, given, options) for given in (models, PAIR))
        for one, other in zip(found, expected, strict=True):
            assert one.images.fingerprint == other.images.fingerprint and len(one.split) == len(other.split)
    assert found[0].images.dataset == "dots" and found[0].loaded is models[0].loaded


def test_what_cannot_be_resolved_is_left_to_each_measure(store):
    options = Options(num=3, samples="dots")
    models = share_models(store, PAIR, options)
    assert models == PAIR
    with pytest.raises(ValueError, match="has no class"):
        comparison.properties(store, models, options)


def test_models_beyond_the_bound_are_let_go_and_loaded_anew(store, counted):
    entries = [store.resolve(name) for name in PAIR]
    loaded = LoadedModels(max_bytes=1)
    first = loaded.load(entries[0], entries[0].card, "cpu")
    assert loaded.load(entries[0], entries[0].card, torch.device("cpu")) is first
    loaded.load(entries[1], entries[1].card, "cpu")
    again = loaded.load(entries[0], entries[0].card, "cpu")
    assert again is not first
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in again.state_dict().items())
    assert dict(counted[1]) == {PAIR[0]: 2, PAIR[1]: 1}


def test_a_store_that_reads_once_finds_what_the_store_finds(store):
    once = ReadOnce(store.root)
    for _ in range(2):
        assert once.models() == store.models() and once.best() == Store(store.root).best()
    assert once.versions(PAIR[0]) == store.versions(PAIR[0])
