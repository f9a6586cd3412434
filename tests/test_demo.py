"""What the demo answers: links, listing, rows, uploads and the endpoints for scripts; no browser."""

import base64
import io
import json
import struct
import subprocess
import sys
import time
import urllib.request
import zlib

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_store import CLASSES, NASTY, ROOT, add_model, break_card, cut_weights, make_splits, make_store, served

from cvx import attribution, measures, render
from demo import classes, frame, grid, looking, markup, picker
from demo.choice import CHOICES, Choice, Pick, read_link
from demo.compare import arrange
from demo.shelf import Bounded, Shelf
from demo.starter import StarterJob


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demo") / "artifacts")


@pytest.fixture
def shelf(store):
    return Shelf(store.root)


@pytest.fixture
def own_store(tmp_path):
    return make_store(tmp_path / "artifacts")


EVERYTHING = Choice(datasets=("dots", "tiles"), models=("resnet10t", "vit_tiny"))


# Links


def test_the_page_offers_what_cvx_knows():
    assert CHOICES["score"] == tuple(attribution.SCORES)
    assert CHOICES["method"] == tuple(attribution.METHODS)
    assert CHOICES["reduction"] == tuple(attribution.REDUCTIONS)


names = st.text(max_size=12)


@given(
    datasets=st.lists(names, unique=True, max_size=3),
    models=st.lists(names, unique=True, max_size=3),
    words=st.fixed_dictionaries({name: st.sampled_from(allowed) for name, allowed in CHOICES.items()}),
    clip=st.sampled_from([50.0, 97.5, 100.0]),
    limit=st.floats(1e-6, 1e6),
    index=st.integers(0, 999),
    target=names,
)
def test_a_link_says_everything_that_was_chosen(datasets, models, words, clip, limit, index, target):
    from urllib.parse import parse_qsl

    choice = Choice(datasets=tuple(datasets), models=tuple(models), clip=clip, limit=limit, **words)
    picks = {name: Pick(index=index, target=target) for name in datasets}
    link = choice.link(picks)
    read, read_picks = read_link(parse_qsl(link, keep_blank_values=True))
    assert read == choice
    assert {name: read_picks.get(name, Pick()) for name in datasets} == picks


@given(st.lists(st.tuples(st.sampled_from([*CHOICES, "limit", "clip", "opacity", "image.a", "class.a", "x"]), names)))
def test_a_link_that_makes_no_sense_still_opens_the_page(pairs):
    choice, _ = read_link(pairs)
    assert isinstance(choice, Choice)


def test_a_link_with_numbers_out_of_range_falls_back_to_the_defaults():
    choice, picks = read_link([("clip", "nan"), ("opacity", "1e9"), ("limit", "-1"), ("image.dots", "9" * 30)])
    assert (choice, picks) == (Choice(), {})


@pytest.mark.parametrize(
    ("field", "value"), [("score", "prob"), ("scale", "log"), ("clip", 101.0), ("opacity", float("nan"))]
)
def test_a_choice_that_does_not_exist_is_an_error_that_names_it(field, value):
    with pytest.raises(ValueError, match=field):
        Choice(**{field: value})


# The shelf


def test_the_bounded_cache_drops_what_was_used_least_recently():
    cache, made = Bounded(10), []

    def make(key, size):
        return cache.get(key, lambda: (made.append(key) or key, size))

    for key in "abac":
        make(key, 4)
    make("a", 4), make("b", 4)
    assert made == ["a", "b", "c", "b"]
    assert make("huge", 100) == "huge" and len(cache) == 1


def test_a_model_that_is_added_removed_or_broken_is_seen_at_once(own_store, shelf):
    shelf = Shelf(own_store.root)
    assert list(shelf.listing().datasets["dots"].columns) == ["resnet10t"]
    assert shelf.listing() is shelf.listing()
    splits = make_splits("dots", 24, 8, 1, False)
    entry = add_model(own_store, splits, "resnet10t", seed=1, **{"val/acc1": 0.9})
    assert list(shelf.listing().datasets["dots"].columns) == ["resnet10t", "resnet10t:v0"]
    assert shelf.listing().datasets["dots"].columns["resnet10t"].version == entry.version
    break_card(own_store, "dots-broken")
    assert [one.name for one in shelf.listing().broken] == ["dots-broken"]
    (entry.folder / "card.json").unlink()
    assert list(shelf.listing().datasets["dots"].columns) == ["resnet10t"]


def test_an_empty_store_lists_nothing_and_breaks_nothing(tmp_path):
    shelf = Shelf(tmp_path / "nothing")
    assert shelf.listing().datasets == {}
    assert "empty store" in frame.status(shelf.listing())
    assert looking.lines(shelf, shelf.listing(), EVERYTHING, {}) == []
    assert arrange(shelf.listing(), EVERYTHING, ((), ())) == Choice()


def test_a_dataset_without_samples_says_so_and_still_takes_uploads(own_store, tmp_path):
    import shutil

    shutil.rmtree(own_store.root / "samples" / "dots")
    shelf = Shelf(own_store.root)
    (line,) = looking.lines(shelf, shelf.listing(), Choice(datasets=("dots",), models=("resnet10t",)), {})
    assert "no samples" in line.error and "upload an image" in line.error
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    choice = Choice(datasets=("dots",), models=("resnet10t",), source="upload")
    (line,) = looking.lines(shelf, shelf.listing(), choice, {}, tmp_path / "red.png")
    assert line.cells[0].view.images.shape == (1, 8, 8, 1)


def test_samples_that_are_damaged_take_no_other_dataset_with_them(own_store):
    (own_store.root / "samples" / "dots" / "v0" / "images.npy").write_bytes(b"?")
    shelf = Shelf(own_store.root)
    dots, tiles = looking.lines(shelf, shelf.listing(), EVERYTHING, {})
    assert "damaged" in dots.error
    assert tiles.cells[0].view is not None


# Rows


def test_every_cell_holds_the_gradient_of_its_own_model(shelf, store):
    picks = {"tiles": Pick(index=5)}
    line = looking.lines(shelf, shelf.listing(), EVERYTHING, picks)[1]
    image = store.samples("tiles").split.images[5]
    assert line.label == CLASSES["tiles"][1]
    for cell in line.cells:
        classifier, _ = store.resolve(f"tiles-{cell.column}").load()
        inputs = (torch.tensor(image[None]).permute(0, 3, 1, 2).float() / 255).requires_grad_()
        logits = classifier(inputs)
        (gradient,) = torch.autograd.grad(logits.max(), inputs)
        assert np.allclose(cell.view.logits, logits.detach().numpy(), atol=1e-5)
        assert np.allclose(cell.view.attribution, gradient.numpy(), atol=1e-6)


def test_a_row_shares_one_scale_and_an_own_scale_ends_at_each_percentile(shelf):
    shared = looking.lines(shelf, shelf.listing(), EVERYTHING, {})[1].cells
    assert shared[0].scaled.limit == shared[1].scaled.limit
    each = looking.lines(shelf, shelf.listing(), Choice(**{**vars(EVERYTHING), "scale": "each", "clip": 90.0}), {})
    for cell in each[1].cells:
        heat = np.abs(cell.view.attribution[0]).max(axis=0)
        below, above = (np.quantile(heat, 0.9, method=method) for method in ("lower", "higher"))
        assert below <= cell.scaled.limit <= above
    fixed = Choice(**{**vars(EVERYTHING), "scale": "absolute", "limit": 0.25})
    assert {cell.scaled.limit for cell in looking.lines(shelf, shelf.listing(), fixed, {})[1].cells} == {0.25}


@pytest.mark.parametrize("target", ["pred", "label", "class"])
def test_the_target_is_the_prediction_the_label_or_the_chosen_class(shelf, target):
    picks = {"tiles": Pick(index=3, target="green")}
    line = looking.lines(shelf, shelf.listing(), Choice(**{**vars(EVERYTHING), "target": target}), picks)[1]
    for cell in line.cells:
        chosen = {"pred": int(cell.view.preds[0]), "label": CLASSES["tiles"].index(line.label), "class": 1}[target]
        assert cell.view.targets[0] == chosen


@pytest.mark.parametrize(("score", "method"), [("logit", "gradient"), ("logprob", "gradient"), ("logit", "smoothgrad")])
def test_the_runner_up_and_its_difference_are_those_of_the_logits(shelf, store, score, method):
    def cells(target):
        asked = Choice(datasets=("tiles",), models=("resnet10t", "vit_tiny"), target=target, score=score, method=method)
        (line,) = looking.lines(shelf, shelf.listing(), asked, {"tiles": Pick(index=3)})
        html = grid.grid([line], asked)
        return [cell.view for cell in line.cells], html

    pred, (second, said), (difference, also) = cells("pred")[0], cells("runner_up"), cells("difference")
    assert "(runner-up)" in said and "less that of" in also
    for one, other, both in zip(pred, second, difference, strict=True):
        assert other.targets[0] == np.argsort(-one.logits[0])[1]
        assert np.allclose(both.attribution, one.attribution - other.attribution)
        if method == "gradient":  # a difference of logits and one of log-probabilities have the same slope
            classifier, _ = store.resolve(one.reference).load()
            image = torch.tensor(one.images).permute(0, 3, 1, 2).float().div(255).requires_grad_()
            logits = classifier(image)[0]
            (slope,) = torch.autograd.grad(logits[one.targets[0]] - logits[other.targets[0]], image)
            assert np.allclose(both.attribution, slope.numpy(), atol=1e-5)


def test_a_damaged_model_says_why_in_its_cell_and_the_others_answer(own_store):
    cut_weights(own_store.resolve("tiles-vit_tiny"))
    shelf = Shelf(own_store.root)
    line = looking.lines(shelf, shelf.listing(), EVERYTHING, {})[1]
    resnet, vit = line.cells
    assert resnet.view is not None and "sha256" in vit.error
    html = grid.grid([line], EVERYTHING)
    assert "This model cannot answer" in html and "overlay" in html


def test_a_model_that_a_dataset_does_not_have_leaves_a_place_that_says_so(shelf):
    html = grid.grid(looking.lines(shelf, shelf.listing(), EVERYTHING, {}), EVERYTHING)
    assert html.count("cvx-absent") == 1 and "no such model of dots" in html


def test_more_cells_than_a_page_can_show_are_refused(shelf):
    with pytest.raises(ValueError, match="untick"):
        many = Choice(datasets=("dots", "tiles"), models=tuple(map(str, range(30))))
        looking.lines(shelf, shelf.listing(), many, {})


def test_the_label_of_an_upload_is_not_known_and_asking_for_it_is_said(shelf, tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "own.png")
    choice = Choice(datasets=("tiles",), models=("resnet10t",), source="upload", target="label")
    (line,) = looking.lines(shelf, shelf.listing(), choice, {}, tmp_path / "own.png")
    assert "needs labels" in line.cells[0].error


def test_numbers_under_a_map_are_those_of_the_gradient(shelf):
    lines = looking.lines(shelf, shelf.listing(), EVERYTHING, {})
    html = grid.grid(lines, EVERYTHING)
    for cell in (cell for line in lines for cell in line.cells if cell.view is not None):
        gradient = cell.view.attribution[0].astype(float)
        assert f"L2 norm {render.number(np.sqrt((gradient**2).sum()))}" in html
        assert f"largest {render.number(np.abs(gradient).max())}" in html
        assert f"0 … {render.number(float(cell.scaled.limit))}" in html


def test_each_cell_says_how_alike_it_is_to_the_first_and_how_much_of_it_lies_on_the_mask(shelf, store):
    from scipy.stats import spearmanr

    line = looking.lines(shelf, shelf.listing(), EVERYTHING, {"tiles": Pick(index=5)})[1]
    html = grid.grid([line], EVERYTHING)
    heats = [np.abs(cell.view.attribution[0]).max(axis=0) for cell in line.cells]
    alike = f"{spearmanr(heats[0].ravel(), heats[1].ravel()).statistic:.2f}".replace("-", "\N{MINUS SIGN}")
    assert html.count("Spearman") == 1 and f"Spearman correlation with resnet10t {alike}" in html
    mask = store.samples("tiles").split.masks[5]
    for heat in heats:
        assert (
            f"mass on the mask {100 * heat[mask].sum() / heat.sum():.1f} %, by chance {100 * mask.mean():.1f} %" in html
        )


def test_a_map_that_is_zero_everywhere_is_said_to_be_so(shelf):
    from dataclasses import replace

    (line,) = looking.lines(shelf, shelf.listing(), Choice(datasets=("dots",), models=("resnet10t",)), {})
    view = replace(line.cells[0].view, attribution=np.zeros_like(line.cells[0].view.attribution))
    cells = looking.scale([replace(line.cells[0], view=view)], EVERYTHING)
    html = grid.grid([replace(line, cells=tuple(cells))], EVERYTHING)
    assert "zero at every pixel" in html and "nan" not in html


def test_names_are_shown_as_text_whatever_they_contain(shelf):
    listing = shelf.listing()
    choice = Choice(datasets=("dots",), models=("resnet10t",), target="class")
    picks = {"dots": Pick(index=2, target=NASTY)}
    lines = looking.lines(shelf, listing, choice, picks)
    pages = [
        grid.grid(lines, choice),
        picker.picker([listing.datasets["dots"]], choice, picks),
        classes.cards(shelf, listing.datasets["dots"], NASTY, ["resnet10t"], 5, "max", "logit", "gradient"),
    ]
    for page in pages:
        assert "<b onclick" not in page
        assert markup.text(NASTY) in page


# Files


def saved(line, choice, kind):
    from demo import downloads

    found = downloads.save(downloads.keep((line, choice, choice.link({}))), kind)
    return base64.b64decode(found["content"])


def test_a_row_is_saved_as_picture_arrays_and_numbers(shelf):
    import csv

    choice = Choice(datasets=("tiles",), models=("resnet10t", "vit_tiny"), reduction="signed")
    (line,) = looking.lines(shelf, shelf.listing(), choice, {"tiles": Pick(index=5)})
    arrays = np.load(io.BytesIO(saved(line, choice, "npz")))
    rows = list(csv.DictReader(io.StringIO(saved(line, choice, "csv").decode("utf-8-sig"))))
    about = json.loads(str(arrays["about"]))
    for k, cell in enumerate(line.cells):
        assert np.array_equal(arrays[f"attribution_{k}"], cell.view.attribution[0])
        assert np.allclose(arrays[f"map_{k}"], cell.view.attribution[0].sum(axis=0), atol=1e-6)
        assert np.array_equal(arrays[f"logits_{k}"], cell.view.logits[0])
        assert arrays[f"classes_{k}"].tolist() == list(CLASSES["tiles"])
        assert rows[k]["model"] == about["models"][k]["model"] == cell.view.reference
        assert float(rows[k]["l2_norm"]) == pytest.approx(np.linalg.norm(cell.view.attribution))
    picture = np.asarray(Image.open(io.BytesIO(saved(line, choice, "png"))))
    for cell in line.cells:
        for color in np.unique(render.colorize(cell.scaled.values, True).reshape(-1, 3), axis=0)[::40]:
            assert (picture == color).all(axis=-1).any()


def test_a_row_that_is_no_longer_kept_or_has_no_answer_says_what_to_do(shelf):
    from demo import downloads

    with pytest.raises(ValueError, match="Refresh"):
        downloads.save("unknown", "png")
    (line,) = looking.lines(shelf, shelf.listing(), Choice(datasets=("dots",), models=("vit_tiny",)), {})
    with pytest.raises(ValueError, match="nothing to save"):
        saved(line, Choice(), "csv")


def test_a_spreadsheet_takes_no_name_for_a_formula(shelf):
    from dataclasses import replace

    (line,) = looking.lines(shelf, shelf.listing(), Choice(datasets=("dots",), models=("resnet10t",)), {})
    line = replace(line, subject=replace(line.subject, classes=("=1+1",) * 3))
    assert b",'=1+1," in saved(line, Choice(), "csv")


# Strips of samples


def test_a_strip_filters_pages_and_surprises(shelf):
    shown = shelf.listing().datasets["tiles"]
    pick = picker.changed(shown, Pick(), "filter", "blue")
    assert pick.index == 2
    pick = picker.changed(shown, pick, "surprise", "")
    assert shown.gallery.labels[pick.index] == 2
    html = picker.picker([shown], Choice(), {"tiles": pick})
    assert html.count('aria-label="sample') == 10 and 'aria-pressed="true"' in html
    first = picker.changed(shown, Pick(), "page", "previous")
    assert first.page == 2 and picker.changed(shown, first, "page", "next").page == 0
    assert picker.changed(shown, pick, "image", "7; drop") == pick


def test_a_strip_offers_the_samples_on_which_models_err_or_disagree(shelf, store):
    from demo import gallery

    shown, split = shelf.listing().datasets["tiles"], store.samples("tiles").split
    inputs = torch.tensor(np.asarray(split.images)).permute(0, 3, 1, 2).float() / 255
    preds = []
    for model in ("resnet10t", "vit_tiny"):
        classifier, _ = store.resolve(f"tiles-{model}").load()
        with torch.no_grad():
            preds.append(classifier(inputs).argmax(dim=1).numpy())
    wrong = [i for i, label in enumerate(split.labels) if any(one[i] != label for one in preds)]
    disagree = [i for i in range(len(split)) if preds[0][i] != preds[1][i]]
    errors = [i for i, label in enumerate(split.labels) if preds[0][i] != label]
    assert disagree and 0 < len(errors) < len(split)
    alone = gallery.asker(shelf, ["resnet10t"])
    assert gallery.rows_of(shown, Pick(which="wrong"), alone).tolist() == errors
    ask = gallery.asker(shelf, ["resnet10t", "vit_tiny", "no such"])
    assert gallery.rows_of(shown, Pick(which="wrong"), ask).tolist() == wrong
    assert gallery.rows_of(shown, Pick(which="disagree"), ask).tolist() == disagree
    green = [i for i in wrong if split.labels[i] == 1]
    assert gallery.rows_of(shown, Pick(which="wrong", shown="green"), ask).tolist() == green
    pick = picker.changed(shown, Pick(), "which", "disagree", ask=ask)
    assert pick.index == disagree[0]
    assert picker.changed(shown, pick, "surprise", "", ask=ask).index in disagree
    assert f"{len(disagree)} among the first 40" in picker.picker([shown], Choice(), {"tiles": pick}, ask)
    assert gallery.rows_of(shown, Pick(which="disagree"), gallery.asker(shelf, ["vit_tiny"])).tolist() == []


# The class view


def test_a_class_view_shows_the_facts_that_comparison_computes(shelf, store):
    from cvx.comparison import class_view

    shown = shelf.listing().datasets["tiles"]
    html = classes.cards(shelf, shown, "green", ["resnet10t", "vit_tiny"], 6, "max", "logit", "gradient")
    for model in ("resnet10t", "vit_tiny"):
        classifier, card = store.resolve(f"tiles-{model}").load()
        view = class_view(model, classifier, card, store.samples("tiles").split, 1, num=6)
        assert f"{view.center_bias:.2f}" in html
        assert f"{100 * view.mass_on_mask:.1f} %" in html


def test_a_class_without_samples_says_so_in_the_card(shelf):
    shown = shelf.listing().datasets["dots"]
    html = classes.cards(shelf, shown, "no such", ["resnet10t"], 6, "max", "logit", "gradient")
    assert "cannot answer" in html and "no such" in html


# Uploads


def png_of(width, height):
    """Write a real black-and-white PNG of any size, row by row."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_an_upload_that_is_no_image_says_what_to_do(shelf, tmp_path):
    (tmp_path / "notes.png").write_text("shopping list")
    with pytest.raises(ValueError, match="not an image.*convert"):
        shelf.upload(tmp_path / "notes.png")


def test_an_upload_of_twenty_thousand_pixels_square_is_refused_before_it_is_decoded(shelf, tmp_path):
    (tmp_path / "huge.png").write_bytes(png_of(20_000, 20_000))
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"too large.*smaller"):
        shelf.upload(tmp_path / "huge.png")
    assert time.perf_counter() - begun < 1


def uploads(folder):
    """Write images of every awkward kind; each is red on the left and blue on the right as people see it."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    picture = Image.fromarray(pixels)
    picture.save(folder / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.rotate(180).save(folder / "turned.png", exif=exif)
    picture.convert("RGBA").save(folder / "alpha.png")
    frames = [picture, Image.new("RGB", (40, 40), "white")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    return {name: folder / name for name in ("plain.png", "turned.png", "alpha.png", "moving.gif")}


@pytest.mark.parametrize("name", ["plain.png", "turned.png", "alpha.png", "moving.gif"])
def test_an_upload_is_looked_at_as_people_see_it(shelf, tmp_path, name):
    subject = shelf.upload(uploads(tmp_path)[name])
    left, right = subject.image[20, 5], subject.image[20, 35]
    assert left[0] > 200 > left[2] and right[2] > 200 > right[0]


def test_an_upload_of_one_pixel_and_one_of_16_bits_are_looked_at(shelf, tmp_path):
    Image.new("RGB", (1, 1), "green").save(tmp_path / "dot.png")
    Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)).save(tmp_path / "deep.png")
    choice = Choice(datasets=("dots", "tiles"), models=("resnet10t",), source="upload")
    for name in ("dot.png", "deep.png"):
        lines = looking.lines(shelf, shelf.listing(), choice, {}, tmp_path / name)
        assert [cell.view is not None for line in lines for cell in line.cells] == [True, True]
    deep = shelf.upload(tmp_path / "deep.png").image
    assert deep.max() == 255 and len(np.unique(deep)) > 200


# The starter models


def test_progress_is_read_from_the_lines_that_training_prints(tmp_path):
    from cvx.progress import training_bar

    job = StarterJob(tmp_path)
    titles = [title for title, _, _ in job.progress()]
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        with training_bar(titles[0], total=10, done=0) as bar:
            bar.row({"epoch": 1000, "val/loss": 0.5, "val/acc1": 0.25})
    job.lines.extend(stream.getvalue().splitlines())
    (_, share, numbers), *others = job.progress()
    assert share == 1.0 and "val acc 0.250" in numbers
    assert all(other[1:] == (0.0, "") for other in others)


# Endpoints


@pytest.fixture(scope="module")
def address(store):
    with served(store.root) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_scripts_see_typed_and_documented_endpoints(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/agreement", "/compare", "/models", "/samples"} <= set(named)
    parameters = {one["parameter_name"]: one["python_type"]["type"] for one in named["/compare"]["parameters"]}
    assert parameters["models"] == "list[str]" and parameters["clip"] == "float"
    assert "filepath" in parameters["image"]
    assert all(named[name]["description"] for name in named)


def test_the_endpoint_models_says_what_the_store_holds(client, store):
    held = client.predict(api_name="/models")
    assert [one["reference"] for one in held["models"]] == [entry.reference for entry in store.models()]
    assert held["samples"][1] == {"dataset": "tiles", "num": 40, "classes": list(CLASSES["tiles"])}


def test_the_endpoint_samples_lists_images_of_a_class_with_the_names_that_compare_takes(client, store):
    found = client.predict("tiles", class_name="green", first=1, num=3, api_name="/samples")
    assert [one["sample"] for one in found] == ["tiles:5", "tiles:9", "tiles:13"]
    assert {one["label"] for one in found} == {"green"}
    assert np.array_equal(decoded(found[1]["image_png"]), store.samples("tiles").split.images[9])
    for asked, said in (({"dataset": "birds"}, "dots, tiles"), ({"dataset": "tiles", "num": 101}, "num in 1…100")):
        with pytest.raises(AppError, match=said):
            client.predict(**asked, api_name="/samples")


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_the_endpoint_compare_answers_with_the_models_own_gradients(client, store):
    answer = client.predict(["tiles-resnet10t", "tiles-vit_tiny:v0"], sample="tiles:6", api_name="/compare")
    assert answer["label"] == "blue"
    image = store.samples("tiles").split.images[6]
    for one in answer["answers"]:
        classifier, card = store.resolve(one["model"]).load()
        inputs = torch.tensor(image[None]).permute(0, 3, 1, 2).float() / 255
        logits, gradient = attribution.vanilla_gradient(classifier, inputs, classifier(inputs).argmax(1))
        heat = gradient[0].abs().amax(0).numpy()
        assert np.allclose(one["heatmap"], heat, atol=1e-6)
        assert one["target"] == one["predictions"][0]["class_name"] == card.classes[int(logits.argmax())]
        assert np.array_equal(decoded(one["image_png"]), image)
        drawn = render.colorize((heat / np.float32(one["limit"])).astype(np.float32))
        assert np.abs(decoded(one["map_png"]).astype(int) - drawn).max() <= 6
        assert one["unit"] == "logit per unit pixel"


def test_the_endpoint_agreement_answers_what_the_measures_say(client, store):
    names = ["tiles-resnet10t", "tiles-vit_tiny"]
    rows = client.predict(names, num=20, measure="ssim", api_name="/agreement")
    expected = measures.agreement(store, names, measures.Options(num=20), ["ssim"]).interval("ssim", 0, 1)
    assert [row["condition"] for row in rows] == ["all", "both_right", "disagree"]
    assert rows[0]["mean"] == pytest.approx(expected.mean) and rows[0]["ceiling"] is None
    for asked, said in (({"num": 0}, "num must be in 1…1000"), ({"measure": "mse"}, "unknown measure 'mse'")):
        with pytest.raises(AppError, match=said):
            client.predict(names, **asked, api_name="/agreement")
    with pytest.raises(AppError, match="--measures=properties"):
        client.predict(["tiles-vit_tiny", "dots-resnet10t"], api_name="/agreement")


def test_the_endpoint_compare_takes_an_image_file(client, tmp_path):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    answer = client.predict(["dots-resnet10t"], image=handle_file(tmp_path / "red.png"), api_name="/compare")
    assert "50 × 40" in answer["image"] and np.shape(answer["answers"][0]["heatmap"]) == (8, 8)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"models": ["tiles-resnet"], "sample": "tiles:0"}, "did you mean 'tiles-resnet10t'"),
        ({"models": [], "sample": "tiles:0"}, "at least one model"),
        ({"models": ["tiles-resnet10t"]}, "either a sample"),
        ({"models": ["tiles-resnet10t"], "sample": "tiles:40"}, "0…39"),
        ({"models": ["tiles-resnet10t"], "sample": "birds:1"}, "datasets: dots, tiles"),
        ({"models": ["tiles-resnet10t"], "sample": "tiles:0", "score": "prob"}, "known: logit, logprob, margin"),
        ({"models": ["tiles-resnet10t"], "image": {"path": "/etc/hostname"}}, "handle_file"),
    ],
)
def test_the_endpoint_compare_says_what_is_wrong(client, asked, said):
    with pytest.raises(AppError, match=said):
        client.predict(**asked, api_name="/compare")


def test_a_file_of_the_server_that_was_not_uploaded_is_not_read(address, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    image = {"path": str(tmp_path / "secret.png"), "meta": {"_type": "gradio.FileData"}}
    said = call(address, ["dots-resnet10t"], "", image)
    assert "event: error" in said and "heatmap" not in said
    assert "heatmap" in call(address, ["dots-resnet10t"], "dots:0", None)


def call(address, *values):
    """Call /compare as a script without gradio_client does."""
    rest = ["pred", "logit", "gradient", "max", "shared", 1.0, 99.0, 60.0]
    body = json.dumps({"data": [*values, *rest]}).encode()
    request = urllib.request.Request(f"{address}/gradio_api/call/compare", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/compare/{event}") as answer:
        return answer.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--auth=secret", "--auth=:secret"])
def test_a_login_without_a_name_or_password_is_refused_and_not_repeated(flag, tmp_path):
    command = [sys.executable, str(ROOT / "demo" / "app.py"), flag, f"--artifacts={tmp_path}", "--port=0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 1 and "secret" not in ended.stderr
    assert ended.stderr.startswith("demo: auth must be NAME:PASSWORD") and len(ended.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_first_page_names_no_other_host(store):
    with served(store.root) as address, urllib.request.urlopen(address) as answer:
        page = answer.read().decode()
    for tag in ("<script src=", "<link"):
        assert not [piece for piece in page.split(tag)[1:] if "://" in piece.split(">")[0]]
