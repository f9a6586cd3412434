"""The rows of the tab Compare, and the live examples of the tab About: whose maps they are, and what they say."""

import base64
import io
import re
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image
from small_store import CLASSES, NASTY, cut_weights

from cvx.plotting import colors, labels
from demo.backend import map_rows
from demo.backend.service import ModelService
from demo.components import markup
from demo.components.class_cards import class_cards
from demo.components.image_picker import image_picker
from demo.components.map_grid import map_grid
from demo.state.selection import Choice, Pick, read_link

EVERYTHING = Choice(datasets=("dots", "tiles"), models=("resnet10t", "vit_tiny"))


def test_every_cell_holds_the_gradient_of_its_own_model(service, store):
    picks = {"tiles": Pick(index=5)}
    line = map_rows.make_rows(service, service.catalog(), EVERYTHING, picks)[1]
    image = store.samples("tiles").split.images[5]
    assert line.label == CLASSES["tiles"][1]
    for cell in line.cells:
        classifier, _ = store.resolve(f"tiles-{cell.column}").load()
        inputs = (torch.tensor(image[None]).permute(0, 3, 1, 2).float() / 255).requires_grad_()
        logits = classifier(inputs)
        (gradient,) = torch.autograd.grad(logits.max(), inputs)
        assert np.allclose(cell.explanation.logits, logits.detach().numpy(), atol=1e-5)
        assert np.allclose(cell.explanation.attribution, gradient.numpy(), atol=1e-6)


def test_a_row_shares_one_scale_and_an_own_scale_ends_at_each_percentile(service):
    shared = map_rows.make_rows(service, service.catalog(), EVERYTHING, {})[1].cells
    assert shared[0].scaled.limit == shared[1].scaled.limit
    each = map_rows.make_rows(
        service, service.catalog(), Choice(**{**vars(EVERYTHING), "scale": "each", "clip": 90.0}), {}
    )
    for cell in each[1].cells:
        heat = np.abs(cell.explanation.attribution[0]).max(axis=0)
        below, above = (np.quantile(heat, 0.9, method=method) for method in ("lower", "higher"))
        assert below <= cell.scaled.limit <= above
    fixed = Choice(**{**vars(EVERYTHING), "scale": "absolute", "limit": 0.25})
    assert {cell.scaled.limit for cell in map_rows.make_rows(service, service.catalog(), fixed, {})[1].cells} == {0.25}


@pytest.mark.parametrize("target", ["pred", "label", "class"])
def test_the_target_is_the_prediction_the_label_or_the_chosen_class(service, target):
    picks = {"tiles": Pick(index=3, target="green")}
    line = map_rows.make_rows(service, service.catalog(), Choice(**{**vars(EVERYTHING), "target": target}), picks)[1]
    for cell in line.cells:
        chosen = {"pred": int(cell.explanation.preds[0]), "label": CLASSES["tiles"].index(line.label), "class": 1}[
            target
        ]
        assert cell.explanation.targets[0] == chosen


@pytest.mark.parametrize(("score", "method"), [("logit", "gradient"), ("logprob", "gradient"), ("logit", "smoothgrad")])
def test_the_runner_up_and_its_difference_are_those_of_the_logits(service, store, score, method):
    def cells(target):
        asked = Choice(datasets=("tiles",), models=("resnet10t", "vit_tiny"), target=target, score=score, method=method)
        (line,) = map_rows.make_rows(service, service.catalog(), asked, {"tiles": Pick(index=3)})
        html = map_grid.grid([line], asked)
        return [cell.explanation for cell in line.cells], html

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
    service = ModelService(own_store.root)
    line = map_rows.make_rows(service, service.catalog(), EVERYTHING, {})[1]
    resnet, vit = line.cells
    assert resnet.explanation is not None and "sha256" in vit.error
    html = map_grid.grid([line], EVERYTHING)
    assert "This model cannot answer" in html and "overlay" in html


def test_a_model_that_a_dataset_does_not_have_leaves_a_place_that_says_so(service):
    html = map_grid.grid(map_rows.make_rows(service, service.catalog(), EVERYTHING, {}), EVERYTHING)
    assert html.count("cvx-absent") == 1 and "no such model of dots" in html


def test_more_cells_than_a_page_can_show_are_refused(service):
    with pytest.raises(ValueError, match="untick"):
        many = Choice(datasets=("dots", "tiles"), models=tuple(map(str, range(30))))
        map_rows.make_rows(service, service.catalog(), many, {})


def test_the_label_of_an_upload_is_not_known_and_asking_for_it_is_said(service, tmp_path):
    Image.new("L", (9, 9)).save(tmp_path / "own.png")
    choice = Choice(datasets=("tiles",), models=("resnet10t",), source="upload", target="label")
    (line,) = map_rows.make_rows(service, service.catalog(), choice, {}, tmp_path / "own.png")
    assert "needs labels" in line.cells[0].error


def test_numbers_under_a_map_are_those_of_the_gradient(service):
    lines = map_rows.make_rows(service, service.catalog(), EVERYTHING, {})
    html = map_grid.grid(lines, EVERYTHING)
    for cell in (cell for line in lines for cell in line.cells if cell.explanation is not None):
        gradient = cell.explanation.attribution[0].astype(float)
        assert f"L2 norm {labels.number(np.sqrt((gradient**2).sum()))}" in html
        assert f"largest {labels.number(np.abs(gradient).max())}" in html
        assert f"0 … {labels.number(float(cell.scaled.limit))}" in html


def test_each_cell_says_how_alike_it_is_to_the_first_and_how_much_of_it_lies_on_the_mask(service, store):
    from scipy.stats import spearmanr

    line = map_rows.make_rows(service, service.catalog(), EVERYTHING, {"tiles": Pick(index=5)})[1]
    html = map_grid.grid([line], EVERYTHING)
    heats = [np.abs(cell.explanation.attribution[0]).max(axis=0) for cell in line.cells]
    alike = f"{spearmanr(heats[0].ravel(), heats[1].ravel()).statistic:.2f}".replace("-", "\N{MINUS SIGN}")
    assert html.count("Spearman") == 1 and f"Spearman correlation with resnet10t {alike}" in html
    mask = store.samples("tiles").split.masks[5]
    for heat in heats:
        assert (
            f"mass on the mask {100 * heat[mask].sum() / heat.sum():.1f} %, by chance {100 * mask.mean():.1f} %" in html
        )


def test_a_map_that_is_zero_everywhere_is_said_to_be_so(service):
    from dataclasses import replace

    (line,) = map_rows.make_rows(service, service.catalog(), Choice(datasets=("dots",), models=("resnet10t",)), {})
    explanation = replace(line.cells[0].explanation, attribution=np.zeros_like(line.cells[0].explanation.attribution))
    cells = map_rows.scale([replace(line.cells[0], explanation=explanation)], EVERYTHING)
    html = map_grid.grid([replace(line, cells=tuple(cells))], EVERYTHING)
    assert "zero at every pixel" in html and "nan" not in html


def test_names_are_shown_as_text_whatever_they_contain(service):
    catalog = service.catalog()
    choice = Choice(datasets=("dots",), models=("resnet10t",), target="class")
    picks = {"dots": Pick(index=2, target=NASTY)}
    lines = map_rows.make_rows(service, catalog, choice, picks)
    pages = [
        map_grid.grid(lines, choice),
        image_picker.picker([catalog.datasets["dots"]], choice, picks),
        class_cards.cards(service, catalog.datasets["dots"], NASTY, ["resnet10t"], 5, "max", "logit", "gradient"),
    ]
    for page in pages:
        assert "<b onclick" not in page
        assert markup.text(NASTY) in page


# About


def test_the_live_examples_are_maps_of_the_stores_own_model_and_lead_to_the_same_view(service):
    from urllib.parse import parse_qsl

    from demo.components.about_examples import EXAMPLES, examples
    from demo.tabs.about import about

    html = about(examples(service))
    pictures = re.findall(r'<figure><img class="cvx-pixels " src="data:image/png;base64,([^"]*)"', html)
    links = re.findall(r'<a href="\?([^"]*)">', html)
    assert len(links) == len(EXAMPLES) and len(pictures) == 2 * len(EXAMPLES)
    for k, (link, one) in enumerate(zip(links, EXAMPLES, strict=True)):
        choice, picks = read_link(parse_qsl(unescape(link)))
        assert (choice.datasets, choice.models, picks) == (("tiles",), ("resnet10t",), {})
        drawn = [*one.ways.values()][1]
        assert (choice.reduction, choice.target, choice.clip) == (drawn.reduction, drawn.target, drawn.clip)
        (line,) = map_rows.make_rows(service, service.catalog(), choice, {})
        drawn = colors.colorize(line.cells[0].scaled.values, choice.reduction == "signed")
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[2 * k + 1]))))
        assert np.array_equal(shown, drawn)


def test_a_store_whose_models_are_damaged_has_no_examples_and_still_explains(own_store):
    from demo.components.about_examples import examples
    from demo.tabs.about import about

    cut_weights(own_store.resolve("tiles-resnet10t"))
    service = ModelService(own_store.root)
    assert examples(service) == "" and "vanilla gradient" in about(examples(service))
