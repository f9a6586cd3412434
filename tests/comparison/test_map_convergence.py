"""How the maps of a run's film settle while it trains."""

import numpy as np
import pytest

from cvx import comparison
from cvx.comparison.map_convergence import FRAME_NUMBERS, MASK_NUMBERS, frame_numbers
from cvx.store.runs import Run, RunWriter


def test_a_film_says_when_its_maps_settle(tmp_path):
    random = np.random.default_rng(0)
    first, last = (random.standard_normal((8, 1, 6, 6), dtype=np.float32) for _ in range(2))
    writer = RunWriter.create(tmp_path / "run", {})
    for epoch, (maps, accuracy) in enumerate([(first, 0.1), (first, 0.9), (last, 0.9), (last, 0.9)]):
        writer.film(epoch, np.zeros(8, np.int64), np.zeros((8, 2), np.float32), maps)
        writer.log(epoch, epoch, {"val/acc1": accuracy})
    found = comparison.through_training(Run(tmp_path / "run"))
    assert found.epochs == (0, 1, 2, 3) and found.accuracy == (0.1, 0.9, 0.9, 0.9)
    assert found.settled_at() == 1
    assert found.curve()[2:] == pytest.approx([1, 1]) and abs(found.curve()[1]) < 0.3
    assert "accuracy has settled by epoch 1 of 3" in found.sentence()
    assert "go on changing until epoch 2" in found.sentence()


def test_a_film_tells_where_its_maps_lie_epoch_by_epoch(tmp_path):
    masks = np.zeros((3, 6, 6), bool)
    masks[:, 2:4, 1:3] = True
    writer = RunWriter.create(tmp_path / "run", {})
    for epoch, maps in enumerate([~masks, masks]):
        noise = np.random.default_rng(epoch).random((3, 1, 6, 6), dtype=np.float32)
        writer.film(epoch, np.zeros(3, np.int64), np.zeros((3, 2), np.float32), maps[:, None] * (1 + noise))
    found = comparison.through_training(Run(tmp_path / "run"), masks)
    np.testing.assert_allclose(found.on_mask["mass"], [[0] * 3, [1] * 3])
    assert found.settled_at() == -1 and "no accuracy" in found.sentence()
    assert comparison.through_training(Run(tmp_path / "run")).on_mask == {}


def test_a_frames_numbers_leave_out_what_is_undefined_and_need_the_frame_before(tmp_path):
    run, writer = Run(tmp_path / "run"), RunWriter.create(tmp_path / "run", {})
    noise = 1 + np.random.default_rng(0).random((4, 1, 6, 6), dtype=np.float32)
    masks = np.zeros((4, 6, 6), bool)
    masks[:, :3] = True
    maps = noise * np.stack([masks[0], masks[0], masks[0], ~masks[0]])[:, None]
    before = maps * np.array([1, 1, 0, 1], np.float32)[:, None, None, None]
    assert frame_numbers(run, 0, maps, None) == {}
    assert frame_numbers(run, 0, np.zeros_like(maps), masks) == {"maps/mask_share": 0.5}
    writer.film(1, np.zeros(4, np.int64), np.zeros((4, 2), np.float32), before)
    found = frame_numbers(run, 2, maps, masks)
    assert set(found) == {*FRAME_NUMBERS, *MASK_NUMBERS}
    assert found["maps/spearman_to_previous"] == pytest.approx(1), "an image whose map was zero does not count"
    assert found["maps/pointing"] == found["maps/mass_on_mask"] == 0.75
    assert set(frame_numbers(run, 1, maps, masks)) == set(MASK_NUMBERS), "only earlier frames count"


def test_a_run_without_a_film_says_nothing_and_a_damaged_frame_is_named(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    assert comparison.through_training(Run(tmp_path / "run")) is None
    for epoch in range(2):
        writer.film(epoch, np.zeros(2, np.int64), np.zeros((2, 2), np.float32), np.ones((2, 1, 4, 4), np.float32))
    (tmp_path / "run" / "film" / "0001.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"0001.npz is damaged"):
        comparison.through_training(Run(tmp_path / "run"))
