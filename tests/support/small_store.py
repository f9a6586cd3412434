"""A small real store for the demo's tests, and the demo served from it as people start it."""

import base64
import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from cvx import models
from cvx.data.dataset_types import Info, Split, Splits
from cvx.store import Store
from cvx.store.checkpoint import describe
from cvx.store.store import collection

ROOT = Path(__file__).parents[2]
NASTY = '<b onclick="x">&amp;</b> {{value}} ${1+1}'
"""A class name that is HTML, Handlebars and JavaScript at once, and must be shown as it is."""
CLASSES = {"dots": ("left", "right", NASTY), "tiles": ("red", "green", "blue", "gray")}


def make_splits(name, num, image_size, in_chans, masked):
    """Make noise images on which a bright block, at the place of the class, is the mask."""
    random = np.random.default_rng(len(name))
    classes = CLASSES[name]
    labels = np.arange(num, dtype=np.int64) % len(classes)
    images = random.integers(0, 120, (num, image_size, image_size, in_chans), dtype=np.uint8)
    masks = np.zeros((num, image_size, image_size), bool)
    side = image_size // len(classes)
    for row, label in enumerate(labels):
        masks[row, 2 : 2 + side, label * side : (label + 1) * side] = True
    images[masks] = 255
    split = Split(images, labels, np.arange(num, dtype=np.int64), masks if masked else None)
    flat = images.reshape(-1, in_chans) / 255
    mean, std = tuple(map(float, flat.mean(0))), tuple(map(float, flat.std(0)))
    info = Info(title=f"{name.title()} for tests", licence="none", citation="none", flip=False)
    return Splits(name, split, split, split, classes, mean, std, f"{name}{image_size}", info)


def add_model(store, splits, model, seed=0, **numbers):
    """Store an untrained model of the splits."""
    torch.manual_seed(seed)
    size, chans = splits.image_size, splits.in_chans
    net = models.build(model, splits.num_classes, size, chans, mean=splits.mean, std=splits.std)
    facts = {"name": collection(splits.name, model), "dataset": splits.name, "model": model, "run": f"run-{seed}"}
    card = describe(net, splits, **facts, metrics={"val/acc1": 0.5, "test/acc1": 0.75, **numbers})
    return store.add_model(net.eval(), card)


def make_store(root):
    """Fill a store: two datasets, two architectures, three models that work."""
    store = Store(root)
    dots, tiles = make_splits("dots", 24, 8, 1, False), make_splits("tiles", 40, 16, 3, True)
    for splits in (dots, tiles):
        store.add_samples(splits)
        add_model(store, splits, "resnet10t")
    add_model(store, tiles, "vit_tiny")
    return store


def bare_tab(kind, **loaded):
    """Make a tab without its components, open already: a page of Gradio's leaves event loops behind in a process."""
    tab = object.__new__(kind)
    tab._loader = SimpleNamespace(**loaded)
    return tab


def pixels(uri):
    """Return the pixels of a picture that stands in a page."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def break_card(store, name):
    """Add a model whose card is no JSON."""
    folder = store.root / "models" / name / "v0"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{", encoding="utf-8")


def cut_weights(entry):
    """Cut a stored model's weights short."""
    file = entry.folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


@contextlib.contextmanager
def served(root, *flags, **environ):
    """Run `python demo/app.py` on a free port and give its address; SIGTERM ends it."""
    with serving(root, *flags, **environ) as (address, _):
        yield address


@contextlib.contextmanager
def serving(root, *flags, **environ):
    """Do as `served`, and give the process's id too."""
    command = [sys.executable, str(ROOT / "demo" / "app.py"), f"--artifacts={root}", "--port=0", *flags]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environ}
    process = subprocess.Popen(
        command, cwd=Path(root).parent, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise RuntimeError("the demo did not start: " + "".join(said))
        yield address[0], process.pid
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
