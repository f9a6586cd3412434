"""The main job: a run from data to a stored model, exact after any interruption."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cvx import data
from cvx.config import RunOptions, TrainConfig
from cvx.files import read_json, write_json
from cvx.store import Store
from cvx.store.runs import Run, frame_epochs, list_runs
from cvx.training.loop import DivergedError, InterruptedTraining, train

QUICK = TrainConfig(
    dataset="digits", model="resnet10t", stem="timm", epochs=2, batch_size=64, lr=3e-3, warmup_epochs=0.5, mixup=0.2,
    ema=0.9, precision="fp32",
)  # fmt: skip


@pytest.fixture
def options(tmp_path, data_root):
    return RunOptions(artifacts=tmp_path / "store", data=data_root, device="cpu")


class StopAt:
    """A sink that asks the process to stop when a step is recorded."""

    def __init__(self, step):
        self.step = step

    def log(self, row):
        if row["step"] == self.step and "train/loss" in row:
            os.kill(os.getpid(), signal.SIGTERM)

    def start(self, folder):
        pass

    def frame(self, kind, epoch, path):
        pass

    def finish(self, summary):
        pass


def timeless(folder):
    """Return what a run recorded, without what depends on the clock."""
    rows = [{k: v for k, v in row.items() if not k.startswith("time")} for row in Run(folder).rows()]
    arrays = {}
    for path in sorted(folder.glob("*/*.npz")):
        with np.load(path) as stored:
            arrays |= {f"{path.parent.name}/{path.name}/{key}": stored[key] for key in stored.files}
    return rows, arrays


def assert_same_records(a, b):
    rows_a, arrays_a = timeless(a)
    rows_b, arrays_b = timeless(b)
    assert rows_a == rows_b
    assert arrays_a.keys() == arrays_b.keys()
    for key, array in arrays_a.items():
        np.testing.assert_array_equal(array, arrays_b[key], err_msg=key)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_root):
    """One run of QUICK, trained once for the tests that only read it."""
    options = RunOptions(artifacts=tmp_path_factory.mktemp("store"), data=data_root, device="cpu")
    return train(QUICK, options), options


def test_a_run_ends_with_a_stored_model_that_scores_what_the_summary_says(finished, data_root):
    summary, options = finished
    classifier, card = Store(options.artifacts).resolve("digits-resnet10t").load()
    test = data.load("digits", data_root).test
    inputs = torch.tensor(test.images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        preds = classifier(inputs).argmax(1).numpy()
    assert summary["metrics"]["test/acc1"] == pytest.approx((preds == test.labels).mean())
    assert card.metrics == summary["metrics"] and card.run == summary["run"]
    assert card.metrics["test/acc1"] > 0.3, "two epochs on digits learn something"


def test_every_row_and_frame_that_readers_expect_is_there(finished):
    summary, options = finished
    run = Run(options.artifacts / "runs" / summary["run"])
    rows = run.rows()
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    training = [row for row in rows if "train/loss" in row]
    assert {"train/loss", "train/acc1", "train/grad_norm", "lr", "time/images_per_s"} <= training[0].keys()
    validation = [row for row in rows if "val/acc1" in row]
    assert [row["epoch"] for row in validation] == [0, 1, 2]
    assert {"val/loss", "val/acc1", "val/acc5", "val/ece"} <= validation[0].keys()
    assert run.frames("film").keys() == frame_epochs(2) == run.frames("embeddings").keys()
    with np.load(run.frames("film")[2]) as frame:
        assert frame["attribution"].shape == (32, 1, 8, 8) and frame["attribution"].dtype == np.float32
        assert np.abs(frame["attribution"]).max() > 0
    with np.load(run.folder / "embeddings" / "test.npz") as last:
        assert {"ids", "labels", "logits", "pca", "tsne", "umap"} <= set(last.files)
        assert last["umap"].shape == (len(last["ids"]), 2) and np.isfinite(last["umap"]).all()
    assert {"silhouette", "knn", "trustworthiness"} == {key.split("/")[1] for key in summary["separability"]}
    assert np.sum(summary["confusion"]) == len(data.load("digits", options.data).test)
    assert len(summary["per_class_accuracy"]) == 10


def test_a_row_says_how_much_the_films_maps_are_those_of_the_frame_before(finished):
    from scipy.stats import spearmanr
    from skimage.metrics import structural_similarity

    summary, options = finished
    run = Run(options.artifacts / "runs" / summary["run"])
    rows = [row for row in run.rows() if "val/acc1" in row]
    films = [
        np.abs(np.load(path)["attribution"]).max(axis=1).astype(np.float64) for path in run.frames("film").values()
    ]
    assert not any(key.startswith("maps/") for key in rows[0]), "before the first frame there is none"
    for row, last, film in zip(rows[1:], films[:-1], films[1:], strict=True):
        pairs = list(zip(film, last, strict=True))
        ranks = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs]
        alike = [structural_similarity(a / a.max(), b / b.max(), data_range=1) for a, b in pairs]
        assert row["maps/spearman_to_previous"] == pytest.approx(np.mean(ranks), abs=1e-9)
        assert row["maps/ssim_to_previous"] == pytest.approx(np.mean(alike), abs=1e-9)
        assert "maps/mass_on_mask" not in row, "digits have no masks"


@pytest.mark.slow
def test_where_masks_are_known_every_frame_says_how_much_lies_on_them(options):
    small = {"model": "vit_mini", "patch_size": 16, "epochs": 1, "batch_size": 1000, "warmup_epochs": 0.0}
    summary = train(TrainConfig(dataset="shapes32", **small), dataclasses.replace(options, save="none"))
    rows = [row for row in Run(options.artifacts / "runs" / summary["run"]).rows() if "val/acc1" in row]
    masks = Store(options.artifacts).samples("shapes32").split.head(32).masks
    for row, path in zip(rows, Run(options.artifacts / "runs" / summary["run"]).frames("film").values(), strict=True):
        maps = np.abs(np.load(path)["attribution"]).max(axis=1)
        by_hand = [one[mask].sum() / one.sum() for one, mask in zip(maps, masks, strict=True)]
        strongest = [mask.ravel()[one.argmax()] for one, mask in zip(maps, masks, strict=True)]
        assert row["maps/mass_on_mask"] == pytest.approx(np.mean(by_hand), abs=1e-5)
        assert row["maps/pointing"] == pytest.approx(np.mean(strongest))
        assert row["maps/mask_share"] == pytest.approx(masks.mean())


def test_the_run_folder_says_by_what_it_was_made(finished):
    summary, options = finished
    content = json.loads((options.artifacts / "runs" / summary["run"] / "config.json").read_text())
    assert content["format"] == 1 and content["key"] == QUICK.key
    assert TrainConfig(**content["config"]) == QUICK
    assert {"torch", "timm", "python"} <= content["versions"].keys()


def test_best_and_last_are_kept_and_nothing_else(finished):
    summary, options = finished
    entries = Store(options.artifacts).models()
    roles = [entry.card.role for entry in entries]
    assert roles == (["best"] if summary["best_epoch"] == 2 else ["best", "last"])
    assert not list((options.artifacts / "runs" / summary["run"] / "state").iterdir())


def test_of_two_epochs_with_the_same_accuracy_the_one_with_the_lower_loss_is_best(options):
    hardly = dataclasses.replace(QUICK, model="vit_mini", patch_size=4, optimizer="sgd", lr=1e-6, ema=0.0, mixup=0.0)
    summary = train(hardly, dataclasses.replace(options, save="none"))
    rows = [
        row for row in Run(options.artifacts / "runs" / summary["run"]).rows() if row.get("val/acc1") and row["epoch"]
    ]
    assert len({row["val/acc1"] for row in rows}) == 1 and rows[1]["val/loss"] < rows[0]["val/loss"]
    assert summary["best_epoch"] == 2


def test_the_film_shows_the_stored_samples(finished):
    summary, options = finished
    samples = Store(options.artifacts).samples("digits").split.head(32)
    with np.load(options.artifacts / "runs" / summary["run"] / "film" / "0002.npz") as frame:
        np.testing.assert_array_equal(frame["targets"], samples.labels)


@pytest.mark.slow
def test_a_run_at_another_size_films_the_datasets_own_pixels(options):
    summary = train(dataclasses.replace(QUICK, image_size=16, epochs=1), options)
    store, run = Store(options.artifacts), Run(options.artifacts / "runs" / summary["run"])
    entry, (samples,) = store.resolve(summary["best"]), map(store.find_samples, store.sample_sets())
    splits = data.load("digits", options.data)
    assert entry.card.image_size == 16 and entry.card.source == run.config["source"] == splits.source
    assert entry.card.samples == run.config["samples"] == samples.fingerprint == splits.fingerprint
    np.testing.assert_array_equal(samples.split.images, splits.test.images)
    with np.load(run.folder / "film" / "0001.npz") as frame:
        assert frame["attribution"].shape == (32, 1, 8, 8)


@pytest.mark.slow
def test_a_run_from_before_samples_had_their_own_size_goes_on_with_its_film(options):
    config = dataclasses.replace(QUICK, image_size=16)
    with pytest.raises(InterruptedTraining) as caught:
        train(config, options, [StopAt(2)])
    folder = options.artifacts / "runs" / caught.value.run
    kept = {name: one for name, one in read_json(folder / "config.json").items() if name not in ("samples", "source")}
    write_json(folder / "config.json", {name: one for name, one in kept.items() if name != "format"})
    first = folder / "film" / "0000.npz"
    with np.load(first) as frame:
        arrays = dict(frame)
    np.savez(first, **{**arrays, "attribution": np.kron(arrays["attribution"], np.ones((1, 1, 2, 2), np.float32))})
    train(TrainConfig(), dataclasses.replace(options, resume=caught.value.run))
    assert {np.load(path)["attribution"].shape for path in folder.glob("film/*.npz")} == {(32, 1, 16, 16)}


@pytest.mark.slow
def test_the_same_config_gives_the_same_records(finished, options):
    summary, other = finished
    again = train(QUICK, options)
    assert_same_records(other.artifacts / "runs" / summary["run"], options.artifacts / "runs" / again["run"])


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 20, 29])
def test_stopping_and_resuming_ends_bit_identical(finished, options, step):
    straight, other = finished
    with pytest.raises(InterruptedTraining, match=r"--resume=") as caught:
        train(QUICK, options, [StopAt(step)])
    assert caught.value.step == step
    resumed = train(TrainConfig(), dataclasses.replace(options, resume=caught.value.run))
    assert resumed["metrics"] == straight["metrics"]
    assert_same_records(other.artifacts / "runs" / straight["run"], options.artifacts / "runs" / resumed["run"])
    ours, theirs = (Store(where.artifacts).resolve("digits-resnet10t").card for where in (options, other))
    assert ours.sha256 == theirs.sha256


@pytest.mark.slow
def test_a_killed_run_resumes_bit_identical(options):
    config = dataclasses.replace(QUICK, epochs=12)
    flags = [f"--{key}={value}" for key, value in dataclasses.asdict(config).items()]
    command = [
        sys.executable,
        "-m",
        "cvx",
        "train",
        *flags,
        f"--artifacts={options.artifacts}",
        f"--data={options.data}",
        "--device=cpu",
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not list(options.artifacts.glob("runs/*/state/state.safetensors")):
        assert time.monotonic() < deadline and child.poll() is None, child.stdout.read()
        time.sleep(0.01)
    child.kill()
    child.communicate()
    (run,) = list_runs(options.artifacts)
    assert run.summary is None
    resumed = train(TrainConfig(), dataclasses.replace(options, resume=run.name))
    straight_options = dataclasses.replace(options, artifacts=options.artifacts.parent / "straight")
    straight = train(config, straight_options)
    assert_same_records(
        options.artifacts / "runs" / resumed["run"], straight_options.artifacts / "runs" / straight["run"]
    )


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(options):
    config = dataclasses.replace(QUICK, optimizer="sgd", lr=1e20, warmup_epochs=0, ema=0, epochs=3)
    with pytest.raises(DivergedError, match=r"not finite at step \d+ .*lower lr"):
        train(config, options)
    (run,) = list_runs(options.artifacts)
    assert run.summary is None and Store(options.artifacts).models() == []
    assert all(np.isfinite(row.get("train/loss", 0)) for row in run.rows())


def test_resuming_what_is_done_unknown_or_contradicted_is_refused(finished):
    summary, options = finished
    with pytest.raises(ValueError, match="is done"):
        train(TrainConfig(), dataclasses.replace(options, resume=summary["run"]))
    with pytest.raises(ValueError, match="no run 'nobody'.*unfinished runs: none"):
        train(TrainConfig(), dataclasses.replace(options, resume="nobody"))
    with pytest.raises(ValueError, match="no run"):
        train(TrainConfig(), dataclasses.replace(options, resume="../runs"))


def test_a_resumed_run_keeps_its_own_config(options):
    with pytest.raises(InterruptedTraining) as caught:
        train(QUICK, options, [StopAt(2)])
    with pytest.raises(ValueError, match="keeps its own config"):
        train(dataclasses.replace(QUICK, lr=1.0), dataclasses.replace(options, resume=caught.value.run))


@pytest.mark.slow
def test_two_processes_cannot_train_one_run(options):
    from filelock import FileLock

    with pytest.raises(InterruptedTraining) as caught:
        train(QUICK, options, [StopAt(2)])
    with FileLock(options.artifacts / "runs" / caught.value.run / ".lock"):
        script = "import sys; from cvx.__main__ import main; sys.exit(main(sys.argv[1:]))"
        flags = ["train", f"--resume={caught.value.run}", f"--artifacts={options.artifacts}", f"--data={options.data}"]
        answer = subprocess.run([sys.executable, "-c", script, *flags], capture_output=True, text=True)
    assert answer.returncode == 2 and "another process is training" in answer.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "cifar11"}, "unknown dataset 'cifar11'"),
        ({"model": "resnet81"}, "resnet18|unknown model"),
        ({"optimizer": "adamx"}, "unknown optimizer 'adamx'"),
        ({"batch_size": 100_000}, "batch"),
        ({"warmup_epochs": 5}, "warmup_epochs must be less than epochs"),
        ({"val_fraction": 0.001}, "val_fraction"),
    ],
)
def test_what_does_not_fit_together_is_said_and_leaves_no_run(options, changes, said):
    with pytest.raises(ValueError, match=said):
        train(dataclasses.replace(QUICK, **changes), options)
    assert list_runs(options.artifacts) == []


@pytest.mark.slow
def test_saving_nothing_still_records_the_run(options):
    summary = train(dataclasses.replace(QUICK, epochs=1), dataclasses.replace(options, save="none"))
    assert "best" not in summary and Store(options.artifacts).models() == []
    assert list_runs(options.artifacts)[0].summary["metrics"]["test/acc1"] > 0
