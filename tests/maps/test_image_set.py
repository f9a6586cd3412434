"""Which images a question is about is a choice of its own: any model, whatever it was trained on, can be asked."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_store import add_model, make_splits

from cvx import comparison, models
from cvx.__main__ import main
from cvx.data.dataset_types import OwnSize
from cvx.data.transforms import fit_channels, fit_image
from cvx.maps.image_set import images_of
from cvx.maps.map_folder import explain, side_by_side
from cvx.maps.request import Question
from cvx.models.building import fit_inputs
from cvx.store import Store

SOURCE = "5ca1ab1e00000000"
SMALL = "test_resnet"


def tiles_at(size):
    """Make tiles as they are trained on at a size; their own is 16."""
    own = dataclasses.replace(make_splits("tiles", 40, 16, 3, True), source=SOURCE)
    if size == 16:
        return own
    large = make_splits("tiles", 40, size, 3, True)
    return dataclasses.replace(large, source=SOURCE, own_size=OwnSize(own.fingerprint, lambda: own.samples))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Tiles at 16 and at 32 pixels, and dots, which have other classes."""
    store = Store(tmp_path_factory.mktemp("store"))
    dots = make_splits("dots", 24, 8, 1, False)
    for splits in (tiles_at(16), tiles_at(32), dots):
        store.add_samples(splits)
    add_model(store, tiles_at(16), SMALL)
    add_model(store, tiles_at(32), "test_vit")
    add_model(store, dots, SMALL)
    return store


@pytest.mark.parametrize(("side", "size"), [(32, 16), (33, 24), (28, 28), (64, 9), (8, 32), (16, 20), (5, 7), (1, 4)])
@pytest.mark.parametrize(("channels", "in_chans"), [(3, 3), (1, 3), (3, 1)])
def test_inputs_are_fitted_as_training_data_are(side, size, channels, in_chans):
    images = np.random.default_rng(side).integers(0, 256, (2, side, side, channels), np.uint8)
    expected = fit_channels(np.stack([fit_image(image, size) for image in images]), in_chans)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    fitted = (fit_inputs(inputs, size, in_chans) * 255).permute(0, 2, 3, 1).numpy()
    difference = np.abs(fitted - expected)
    assert difference.max() < 1.75 and difference.mean() < 0.6  # Pillow rounds to whole levels after each pass


def test_inputs_that_fit_are_unchanged_to_the_bit():
    inputs = torch.rand(2, 3, 9, 9)
    assert torch.equal(fit_inputs(inputs, 9, 3), inputs)


def test_a_model_for_other_images_shares_its_weights_and_leaves_the_model_as_it_was():
    model = models.build(SMALL, 4, 16, 3).eval()
    other = model.of(24, 1)
    assert next(other.parameters()) is next(model.parameters())
    assert other(torch.rand(1, 1, 24, 24)).shape == model(torch.rand(1, 3, 16, 16)).shape == (1, 4)
    with pytest.raises(ValueError, match="was built for"):
        model(torch.rand(1, 1, 24, 24))


def test_models_of_two_sizes_of_one_dataset_share_its_samples_at_its_own_size(store):
    assert store.sample_sets() == ["dots:v0", "tiles:v0"]
    cards = [store.resolve(f"tiles-{name}").card for name in (SMALL, "test_vit")]
    found = [images_of(store, card) for card in cards]
    assert [one.split.images.shape[1:] for one in found] == [(16, 16, 3)] * 2
    assert found[0].identity == found[1].identity == SOURCE


def test_agreement_is_measured_across_input_sizes_on_one_grid(store):
    found = comparison.agreement(store, [f"tiles-{SMALL}", "tiles-test_vit"], comparison.Options(num=12))
    assert found.dataset == "tiles" and np.isfinite(found.values["spearman"]).all()
    assert found.values["spearman"].shape == (2, 2, 12)


def test_models_of_other_datasets_can_be_asked_about_samples_by_name(store):
    options = comparison.Options(num=12, samples="tiles", target="pred")
    found = comparison.agreement(store, [f"tiles-{SMALL}", f"dots-{SMALL}"], options)
    assert found.dataset == "tiles" and found.classes == ("red", "green", "blue", "gray")
    assert np.isfinite(found.values["cosine"]).all()
    assert (found.preds[1] == -1).all()  # its classes are none of the images'


def test_a_label_that_a_model_lacks_is_said_with_what_can_be_asked(store):
    with pytest.raises(ValueError, match=r"no class 'red', 'green', 'blue', 'gray'.*--target=pred") as told:
        comparison.agreement(store, [f"tiles-{SMALL}", f"dots-{SMALL}"], comparison.Options(samples="tiles:v0"))
    assert "dots" in str(told.value)
    with pytest.raises(ValueError, match=r"--targets=pred"):
        explain(store, [f"dots-{SMALL}"], Question(samples="tiles", num=4))


def test_samples_that_are_not_there_or_named_beside_a_split_are_refused(store):
    card = store.resolve(f"tiles-{SMALL}").card
    with pytest.raises(ValueError, match=r"no samples 'cars'.*known: dots:v0, tiles:v0"):
        images_of(store, card, samples="cars")
    with pytest.raises(ValueError, match="two sets of images"):
        images_of(store, card, "val", "tiles")


def test_without_a_common_source_models_are_not_compared_unasked(store):
    with pytest.raises(ValueError, match=r"did not get the same images.*--samples=NAME"):
        comparison.agreement(store, [f"tiles-{SMALL}", f"dots-{SMALL}"])


def test_models_from_before_there_were_digests_can_be_compared_when_asked_about_the_same(tmp_path):
    store = Store(tmp_path)
    for size in (8, 16):
        splits = make_splits("tiles", 40, size, 3, True)
        store.add_samples(splits)
        add_model(store, splits, {8: SMALL, 16: "test_vit"}[size])
    names = [f"tiles-{SMALL}", "tiles-test_vit"]
    with pytest.raises(ValueError, match=r"tiles at 8 px.*tiles at 16 px"):
        comparison.agreement(store, names, comparison.Options(num=6))
    found = comparison.agreement(store, names, comparison.Options(num=6, samples="tiles:v1"), names=["cosine"])
    assert np.isfinite(found.values["cosine"]).all()


@pytest.mark.parametrize("kind", ["properties", "localization", "faithfulness", "sanity", "stability"])
def test_every_measure_takes_a_model_of_another_size(store, kind):
    found = getattr(comparison, kind)(store, ["tiles-test_vit"], comparison.Options(num=4, samples="tiles"))
    rows = [row for row in found.rows() if row["num"]]
    assert rows and all(np.isfinite(row["mean"]) for row in rows)


def test_what_is_kept_does_not_depend_on_how_the_images_were_named(store):
    options = comparison.Options(num=5)
    comparison.properties(store, [f"tiles-{SMALL}"], options)
    before = set(store.root.glob("measures/properties/*.npz"))
    comparison.properties(store, [f"tiles-{SMALL}"], dataclasses.replace(options, samples="tiles:v0"))
    assert set(store.root.glob("measures/properties/*.npz")) == before


def test_maps_of_named_samples_lie_in_a_folder_of_their_own_beside_the_datasets(store):
    own, named = (
        explain(store, [f"dots-{SMALL}"], Question(samples=samples, targets="pred", num=4, per_class=1))[0]
        for samples in ("", "tiles")
    )
    assert own.folder.relative_to(store.root).as_posix() == f"attributions/dots/dots-{SMALL}@v0-pred"
    assert named.folder.relative_to(store.root).as_posix() == f"attributions/tiles/dots-{SMALL}@v0-pred-tiles-v0"
    assert np.load(named.folder / "maps.npz")["attribution"].shape == (4, 3, 16, 16)
    assert json.loads((named.folder / "card.json").read_text())["images"]["source"] == SOURCE


def test_models_asked_about_the_same_are_drawn_side_by_side_whatever_they_were_trained_on(store):
    question = Question(samples="tiles", targets="pred", num=4, per_class=1)
    answers = explain(store, [f"dots-{SMALL}", "tiles-test_vit"], question)
    (folder,) = side_by_side(answers)
    assert folder.parent == store.root / "attributions" / "tiles"


def test_two_folders_of_one_name_have_maps_and_models_of_their_own(tmp_path):
    store = Store(tmp_path)
    for source in ("aaaaaa11", "bbbbbb22"):
        splits = make_splits("dots", 24, 8, 1, False)
        splits = dataclasses.replace(splits, name=f"folder:/{source}/two", source=source, fingerprint=f"f{source}")
        store.add_samples(splits)
        add_model(store, splits, SMALL, **{"val/acc1": 0.1 if source[0] == "b" else 0.9})
    names = [f"folder-two-{SMALL}", f"folder-two-{SMALL}-bbbbbb"]
    assert [entry.name for entry in store.best()] == names
    folders = [one.folder for one in explain(store, names, Question(num=3, per_class=1))]
    assert folders == [tmp_path / "attributions" / "folder-two" / name for name in names]
    assert store.sample_sets() == ["folder-two:v1", "folder-two:v0"]


def test_the_command_line_says_it_in_one_way(store, capsys, tmp_path):
    where = [f"--artifacts={store.root}", "--device=cpu", "--wandb=off"]
    pair = [f"dots-{SMALL}", f"tiles-{SMALL}"]
    assert main(["attribute", *pair, "--samples=tiles", "--targets=pred", "--num=4", "--per_class=1", *where]) == 0
    assert "tiles-v0" in capsys.readouterr().out
    assert main(["attribute", pair[0], "--samples=tiles:v0", "--targets=all", "--per_class=1", *where]) == 0
    assert (store.root / "attributions" / "tiles" / f"dots-{SMALL}@v0-all-tiles-v0" / "0.png").is_file()
    capsys.readouterr()
    asked = ["--samples=tiles", "--num=8", "--measures=agreement"]
    assert main(["compare", *pair, *asked, "--target=pred", *where]) == 0
    told = store.root / "compare" / f"dots-{SMALL}@v0+tiles-{SMALL}@v0-on-tiles"
    assert (told / "agreement.csv").is_file()
    assert main(["compare", *pair, *asked, *where]) == 2
    assert "--target=pred" in capsys.readouterr().err
    assert main(["evaluate", "tiles-test_vit", "--samples=tiles", *where]) == 0
    out = capsys.readouterr().out
    assert "tiles-test_vit:v0 on tiles (40 images)" in out and "acc1" in out


def test_the_page_and_scripts_ask_any_model_about_any_samples(store, tmp_path):
    from demo.api import handlers
    from demo.backend.map_rows import make_rows
    from demo.backend.service import ModelService
    from demo.state.selection import Choice, Pick, read_link

    service = ModelService(store.root)
    catalog = service.catalog()
    assert list(catalog.sets) == ["dots:v0", "tiles:v0"] == handlers.list_store(catalog)["sets"]
    choice = Choice(datasets=("dots",), models=(SMALL,), samples="tiles:v0")
    assert read_link([("samples", "tiles:v0")])[0].samples == "tiles:v0" and "samples=tiles%3Av0" in choice.link({})
    (line,) = make_rows(service, catalog, choice, {"dots": Pick(index=3)})
    assert line.query.caption == "test sample 4 of 40 of tiles:v0" and line.label == "gray"
    assert line.cells[0].explanation.attribution.shape == (1, 3, 16, 16)
    found = handlers.compare(service, [f"dots-{SMALL}", "tiles-test_vit"], "tiles:3", None, "pred", Choice())
    assert not any(one["error"] for one in found["answers"])
    assert [np.shape(one["heatmap"]) for one in found["answers"]] == [(16, 16)] * 2
    assert [one["label"] for one in handlers.samples(catalog, "tiles:v0", "", 0, 2)] == ["red", "green"]
    rows = handlers.agreement(service, [f"tiles-{SMALL}", "tiles-test_vit"], 6, "cosine", "tiles")
    assert {row["dataset"] for row in rows} == {"tiles"}


def test_an_upload_is_seen_at_the_models_own_size(store, tmp_path):
    from demo.backend.service import ModelService

    path = tmp_path / "photo.png"
    Image.new("RGB", (50, 40), "red").save(path)
    service = ModelService(store.root)
    entry = store.resolve(f"tiles-{SMALL}")
    view = service.explain(entry, service.upload(path), "pred", "logit", "gradient")
    assert view.images.shape == (1, 16, 16, 3)


def test_recorded_answers_are_not_taken_for_those_about_other_images_of_the_same_ids(store):
    from demo.backend.service import ModelService

    service = ModelService(store.root)
    entry = store.resolve(f"dots-{SMALL}")
    about_tiles = service.classify(entry, store.find_samples("tiles"))
    assert about_tiles.shape == (40,) and (about_tiles == -1).all()
