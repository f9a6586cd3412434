"""What the demo answers: links, catalog, rows, uploads and the endpoints for scripts; no browser."""

import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from killing import ROOT
from PIL import Image
from small_store import add_model, break_card, make_splits

from cvx import attribution
from demo.backend import map_rows
from demo.backend.lru_cache import LRUCache
from demo.backend.service import ModelService
from demo.components import controls, store_status
from demo.components.class_cards import class_cards
from demo.components.image_picker import image_picker
from demo.jobs.starter_training import StarterJob
from demo.state.selection import CHOICES, WHICH, Choice, Pick, read_link
from demo.tabs.compare import arrange

EVERYTHING = Choice(datasets=("dots", "tiles"), models=("resnet10t", "vit_tiny"))


# Links


def test_the_page_offers_what_cvx_knows():
    assert CHOICES["score"] == tuple(attribution.SCORES)
    assert CHOICES["method"] == tuple(attribution.METHODS)
    assert CHOICES["reduction"] == tuple(attribution.REDUCTIONS)
    assert controls.SCORES == [("Logit", "logit"), ("Log-probability", "logprob"), ("Centered logit", "margin")]
    assert [title for title, _ in controls.METHODS] == ["Vanilla gradient", "SmoothGrad", "Integrated Gradients"]
    assert [title for title, _ in controls.REDUCTIONS] == ["Largest magnitude", "Sum of magnitudes", "Signed sum"]


names = st.text(max_size=12)


@given(
    datasets=st.lists(names, unique=True, max_size=3),
    models=st.lists(names, unique=True, max_size=3),
    words=st.fixed_dictionaries({name: st.sampled_from(allowed) for name, allowed in CHOICES.items()}),
    clip=st.sampled_from([50.0, 97.5, 100.0]),
    limit=st.floats(1e-6, 1e6),
    pick=st.builds(Pick, st.integers(0, 999), names, names, st.integers(0, 99), st.sampled_from([*WHICH])),
)
def test_a_link_says_everything_that_was_chosen(datasets, models, words, clip, limit, pick):
    from urllib.parse import parse_qsl

    choice = Choice(datasets=tuple(datasets), models=tuple(models), clip=clip, limit=limit, **words)
    picks = dict.fromkeys(datasets, pick)
    link = choice.link(picks)
    read, read_picks = read_link(parse_qsl(link, keep_blank_values=True))
    assert read == choice
    assert {name: read_picks.get(name, Pick()) for name in datasets} == picks


KEYS = [*CHOICES, "limit", "clip", "opacity", "image.a", "class.a", "page.a", "which.a", "show.a", "pixel.a", "x"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), names)))
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


# The service


def test_the_bounded_cache_drops_what_was_used_least_recently():
    cache, made = LRUCache(10), []

    def make(key, size):
        return cache.get(key, lambda: (made.append(key) or key, size))

    for key in "abac":
        make(key, 4)
    make("a", 4), make("b", 4)
    assert made == ["a", "b", "c", "b"]
    assert make("huge", 100) == "huge" and len(cache) == 1


def test_what_two_ask_for_at_once_is_made_once_while_others_find_theirs():
    cache, made, begun, go_on = LRUCache(10), [], threading.Event(), threading.Event()
    cache.get("kept", lambda: ("kept", 1))

    def make():
        made.append(begun.set())
        assert go_on.wait(60)
        return "new", 1

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(cache.get, "new", make) for _ in range(2)]
        assert begun.wait(60) and cache.get("kept", make) == "kept"
        go_on.set()
        assert [one.result(60) for one in both] == ["new", "new"]
    assert len(made) == 1


def test_a_model_that_is_added_removed_or_broken_is_seen_at_once(own_store, service):
    service = ModelService(own_store.root)
    assert list(service.catalog().datasets["dots"].columns) == ["resnet10t"]
    assert service.catalog() is service.catalog()
    splits = make_splits("dots", 24, 8, 1, False)
    entry = add_model(own_store, splits, "resnet10t", seed=1, **{"val/acc1": 0.9})
    assert list(service.catalog().datasets["dots"].columns) == ["resnet10t", "resnet10t:v0"]
    assert service.catalog().datasets["dots"].columns["resnet10t"].version == entry.version
    break_card(own_store, "dots-broken")
    assert [one.name for one in service.catalog().broken] == ["dots-broken"]
    (entry.folder / "card.json").unlink()
    assert list(service.catalog().datasets["dots"].columns) == ["resnet10t"]


def test_an_empty_store_lists_nothing_and_breaks_nothing(tmp_path):
    service = ModelService(tmp_path / "nothing")
    assert service.catalog().datasets == {}
    assert "empty store" in store_status.status(service.catalog())
    assert map_rows.make_rows(service, service.catalog(), EVERYTHING, {}) == []
    assert arrange(service.catalog(), EVERYTHING, ((), ())) == Choice()


def test_a_dataset_without_samples_says_so_and_still_takes_uploads(own_store, tmp_path):
    import shutil

    shutil.rmtree(own_store.root / "samples" / "dots")
    service = ModelService(own_store.root)
    (line,) = map_rows.make_rows(service, service.catalog(), Choice(datasets=("dots",), models=("resnet10t",)), {})
    assert "no samples" in line.error and "upload an image" in line.error
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    choice = Choice(datasets=("dots",), models=("resnet10t",), source="upload")
    (line,) = map_rows.make_rows(service, service.catalog(), choice, {}, tmp_path / "red.png")
    assert line.cells[0].explanation.images.shape == (1, 8, 8, 1)


def test_samples_that_are_damaged_take_no_other_dataset_with_them(own_store):
    (own_store.root / "samples" / "dots" / "v0" / "images.npy").write_bytes(b"?")
    service = ModelService(own_store.root)
    dots, tiles = map_rows.make_rows(service, service.catalog(), EVERYTHING, {})
    assert "damaged" in dots.error
    assert tiles.cells[0].explanation is not None


# Strips of samples


def test_a_strip_filters_pages_and_surprises(service):
    shown = service.catalog().datasets["tiles"]
    pick = image_picker.changed(shown, Pick(), "filter", "blue")
    assert pick.index == 2
    pick = image_picker.changed(shown, pick, "surprise", "")
    assert shown.gallery.labels[pick.index] == 2
    html = image_picker.picker([shown], Choice(), {"tiles": pick})
    assert html.count('aria-label="sample') == 10 and 'aria-pressed="true"' in html
    first = image_picker.changed(shown, Pick(), "page", "previous")
    assert first.page == 2 and image_picker.changed(shown, first, "page", "next").page == 0
    assert image_picker.changed(shown, pick, "image", "7; drop") == pick


def test_a_strip_offers_the_samples_on_which_models_err_or_disagree(service, store):
    from demo.components.image_picker import filters

    shown, split = service.catalog().datasets["tiles"], store.samples("tiles").split
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
    alone = filters.asker(service, ["resnet10t"])
    assert filters.rows_of(shown, Pick(which="wrong"), alone).tolist() == errors
    ask = filters.asker(service, ["resnet10t", "vit_tiny", "no such"])
    assert filters.rows_of(shown, Pick(which="wrong"), ask).tolist() == wrong
    assert filters.rows_of(shown, Pick(which="disagree"), ask).tolist() == disagree
    green = [i for i in wrong if split.labels[i] == 1]
    assert filters.rows_of(shown, Pick(which="wrong", shown="green"), ask).tolist() == green
    pick = image_picker.changed(shown, Pick(), "which", "disagree", ask=ask)
    assert pick.index == disagree[0]
    assert image_picker.changed(shown, pick, "surprise", "", ask=ask).index in disagree
    assert f"{len(disagree)} of 40 samples" in image_picker.picker([shown], Choice(), {"tiles": pick}, ask)
    assert filters.rows_of(shown, Pick(which="disagree"), filters.asker(service, ["vit_tiny"])).tolist() == []


# The class view


def test_a_class_view_shows_the_facts_that_comparison_computes(service, store):
    from cvx.maps.class_summary import explain_class

    shown = service.catalog().datasets["tiles"]
    html = class_cards.cards(service, shown, "green", ["resnet10t", "vit_tiny"], 6, "max", "logit", "gradient")
    for model in ("resnet10t", "vit_tiny"):
        classifier, card = store.resolve(f"tiles-{model}").load()
        view = explain_class(model, classifier, card, store.samples("tiles").split, 1, num=6)
        assert f"{view.center_bias:.2f}" in html
        assert f"{100 * view.mass_on_mask:.1f} %" in html


def test_a_class_without_samples_says_so_in_the_card(service):
    shown = service.catalog().datasets["dots"]
    html = class_cards.cards(service, shown, "no such", ["resnet10t"], 6, "max", "logit", "gradient")
    assert "cannot answer" in html and "no such" in html


# The starter models


def test_the_page_is_laid_out_without_waiting_for_torch():
    code = "import demo.page, sys; print(sorted({'torch', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


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
