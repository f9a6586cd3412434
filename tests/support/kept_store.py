"""A small store with one of everything that cvx keeps, for the tests of doctor, prune and damage."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from small_runs import add_run
from small_store import add_model, make_splits

from cvx.comparison.result_cache import save_cached
from cvx.comparison.tables import write_table
from cvx.files import read_json, write_json
from cvx.report.html import write
from cvx.store import Store
from cvx.sweeps.sweep_file import read
from cvx.sweeps.trials import Ledger

SWEEP = """
program: cvx
command: ["${env}", python, -m, cvx, train, "${args}"]
method: random
metric: {name: val/acc1, goal: maximize}
parameters:
  dataset: {value: digits}
  lr: {values: [0.1, 0.2, 0.3]}
"""


def make_kept_store(root):
    """Fill a store with two versions of one model, samples, a run, a result, a sweep and a picture."""
    store = Store(root)
    tiles = make_splits("tiles", 40, 16, 3, True)
    store.add_samples(tiles)
    first = add_model(store, tiles, "vit_mini", seed=0)
    add_model(store, tiles, "vit_mini", seed=1)
    folder = root / "runs" / add_run(store, tiles, "vit_mini", epochs=2)
    write_json(folder / "summary.json", {**read_json(folder / "summary.json"), "best": first.reference, "epochs": 2})
    write_json(folder / "wandb.json", {"entity": "tester", "project": "maps", "id": folder.name})
    save_cached(store, "pairs", {"model": first.card.sha256}, {"cosine": np.zeros(3)})
    add_sweep(root)
    add_outputs(root)
    picture = root / "attributions" / "tiles" / "vit_mini" / "red_0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(picture)
    return store


def add_outputs(root):
    """Write what `attribute`, `compare` and `report` write beside pictures."""
    maps = root / "attributions" / "tiles" / "vit_mini"
    write_json(maps / "card.json", {"model": "tiles-vit_mini:v0"})
    np.savez(maps / "maps.npz", ids=np.arange(3), attribution=np.random.default_rng(1).normal(size=(3, 16, 16, 3)))
    (root / "compare" / "pair").mkdir(parents=True)
    write_table(root / "compare" / "pair" / "agreement", [{"a": "x", "n": 0.5}] * 9, ["a", "n"], [["x", "0.5"]] * 9)
    write(root, "<!doctype html>\n<html><body>maps</body></html>\n")
    write_json(root / "reports" / "report.json", {"project": "tester/maps", "report": ""})


def add_sweep(root):
    """Begin a sweep and finish one trial of it."""
    file = root.parent / "sweep.yaml"
    file.write_text(SWEEP, encoding="utf-8")
    ledger = Ledger(root / "sweeps" / "small", read(file))
    trial = ledger.claim(1)
    ledger.report(trial, [0.5], 0)
    ledger.settle(trial, "finished", 0.5)
    ledger.close()
    write_json(root / "sweeps" / "small" / "result.json", {"name": "small", "trials": []})
    args = root / "sweeps" / "small" / "args" / "0.json"
    args.parent.mkdir()
    args.write_text('{"lr": 0.1}', encoding="utf-8")


def files_of(root):
    """List what a store keeps, without locks: they hold nothing."""
    return sorted(
        path.relative_to(root)
        for path in Path(root).rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    )


def state_of(root):
    """Return all that can change in a folder: names, content, times."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(Path(root).rglob("*"))
    }


def text_of(path):
    """Read a JSON file without any check."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
