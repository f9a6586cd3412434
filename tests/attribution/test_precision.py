"""Maps in a faster precision: asked for by name, close to float32, and never silently in its place."""

import json

import numpy as np
import pytest
import torch
from small_store import make_store

from cvx.attribution import attribute, batch_size
from cvx.maps.map_folder import explain
from cvx.maps.request import Question
from cvx.metrics.agreement import rounding_error
from cvx.models import build


def images(num, side=16):
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(num))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("num", [4, 33])  # 33 are explained of a folded copy
def test_bfloat16_maps_are_close_to_float32_ones_and_not_the_same(name, num):
    torch.manual_seed(0)
    model, inputs, targets = build(name, 10, 16).eval(), images(num), torch.arange(num) % 10
    exact = attribute(model, inputs, targets)[1].numpy()
    rounded = attribute(model, inputs, targets, precision="bf16")[1].numpy()
    cosines, ranks = rounding_error(exact, rounded)
    assert rounded.dtype == np.float32 and not np.array_equal(exact, rounded)
    assert np.median(cosines) > 0.97 and np.median(ranks) > 0.9


def test_the_error_is_none_for_equal_maps_and_unknown_where_a_map_is_zero():
    maps = images(3).numpy() - 0.5
    rounded = maps.copy()
    rounded[1] = 0
    cosines, ranks = rounding_error(maps, rounded)
    for values in (cosines, ranks):
        np.testing.assert_allclose(values[[0, 2]], 1)
        assert np.isnan(values[1])


def test_the_opposite_map_has_the_cosine_minus_one_and_the_same_ranks():
    maps = images(2).numpy() - 0.5
    cosines, ranks = rounding_error(maps, -maps)
    np.testing.assert_allclose(cosines, -1)
    np.testing.assert_allclose(ranks, 1)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="unknown precision 'fp8'; known: fp32, bf16"):
        attribute(build("test_vit", 10, 16), images(1), torch.tensor([0]), precision="fp8")


def test_rounded_maps_get_a_folder_of_their_own_and_say_how_far_off_they_are(tmp_path):
    store = make_store(tmp_path)
    (exact,) = explain(store, ["tiles-resnet10t"], Question(per_class=1))
    (rounded,) = explain(store, ["tiles-resnet10t"], Question(per_class=1, precision="bf16"))
    assert exact.folder != rounded.folder and rounded.folder.name.endswith("-bf16")
    assert not exact.warnings
    (warning,) = rounded.warnings
    assert warning.startswith("the maps of tiles-resnet10t:v0 are rounded (bf16): cosine 0.9")
    assert "rank correlation" in warning and warning.endswith("over 16 images")
    assert json.loads((rounded.folder / "card.json").read_text())["precision"] == "bf16"
    one, other = (np.load(answer.folder / "maps.npz")["attribution"] for answer in (exact, rounded))
    assert not np.array_equal(one, other)


def test_the_batch_keeps_within_the_memory_that_is_free(monkeypatch):
    model, one = build("test_vit", 10, 16), images(1)
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 1)
    assert batch_size.choose_batch_size(model, one) == 1
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 2**40)
    assert batch_size.choose_batch_size(model, one) == batch_size.MOST["cpu"]


def test_a_limit_of_the_container_counts_as_well_as_what_the_machine_has_left(monkeypatch):
    cpu = torch.device("cpu")
    assert batch_size.free_bytes(cpu) > 0
    monkeypatch.setattr(batch_size, "_available", lambda: 1000)
    for limit, expected in (([300], 300), ([], 1000), ([2000], 1000)):
        monkeypatch.setattr(batch_size, "_within_limit", lambda limit=limit: limit)
        assert batch_size.free_bytes(cpu) == expected
    monkeypatch.setattr(batch_size, "_available", lambda: None)
    monkeypatch.setattr(batch_size, "_within_limit", list)
    assert batch_size.free_bytes(cpu) == batch_size.FALLBACK
