"""`python -m demo.film_gif`: films of runs as a picture that plays."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_runs import EPOCHS
from small_store import ROOT

from cvx.attribution import rescale
from cvx.plotting import colors
from demo import film_gif
from demo.backend.run_history import RunHistory


@pytest.fixture
def tiles(tiles):
    return [run.name for run in tiles]


def test_every_frame_holds_the_images_and_each_runs_newest_maps_on_a_scale_of_all_its_epochs(store, tiles):
    frames = film_gif.frames_of(store.root, tiles, (0, 3), 16)
    assert len(frames) == EPOCHS + 1 and len({frame.shape for frame in frames}) == 1
    history = RunHistory(store.root)
    films = [history.film(run, "max") for run in history.run_list().named(tiles)]
    gallery = store.samples("tiles").split.images
    top, step = film_gif.GAP + film_gif.LINE, 16 + film_gif.GAP
    for epoch, frame in enumerate(frames):
        for column, image in enumerate((0, 3)):
            left = film_gif.GAP + column * step
            assert np.array_equal(frame[top : top + 16, left : left + 16], gallery[image])
            for row, one in enumerate(films, start=1):
                at = min(epoch, len(one.epochs) - 1)
                scaled = rescale(list(one.heatmaps[:, image]), "shared", 0.99)[at]
                down = top + row * (step + film_gif.LINE)
                assert np.array_equal(frame[down : down + 16, left : left + 16], colors.colorize(scaled.values))


def test_the_command_writes_a_gif_that_plays_for_ever_and_holds_the_last_frame(store, tiles, tmp_path):
    flags = [
        f"--artifacts={store.root}",
        f"--output={tmp_path / 'film.gif'}",
        "--images",
        "0",
        "--every=3",
        "--side=16",
    ]
    command = [sys.executable, "-m", "demo.film_gif", *tiles, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "film.gif: 3 frames" in done.stdout  # epochs 0, 3 and the last
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.info["loop"]) == (3, 0)
        film.seek(2)
        assert film.info["duration"] == film_gif.LAST_MS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": ["gone"]}, "no run 'gone' in"),
        ({"images": (99,)}, "has the images 0…7, got 99"),
        ({"both": True}, "of different datasets"),
    ],
)
def test_what_cannot_be_drawn_is_said(store, tiles, change, said):
    names = change.get("names", tiles)
    if change.get("both"):
        names = [run.name for run in RunHistory(store.root).run_list().runs]
    with pytest.raises(ValueError, match=said):
        film_gif.frames_of(store.root, names, change.get("images", (0,)), 16)
