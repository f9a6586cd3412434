"""Tiny-ImageNet in small, in exactly the official format."""

import io

import numpy as np
from PIL import Image

# As in the official files: not sorted, several synonyms, and one first synonym twice.
WNIDS = ["n02124075", "n01443537", "n02012849", "n03126707"]
WORDS = {
    "n00001740": "entity",
    "n01443537": "goldfish, Carassius auratus",
    "n02012849": "crane",
    "n02124075": "Egyptian cat",
    "n03126707": "crane",
}
NUM_TRAIN, NUM_VAL = 12, 2


def _jpeg(seed, gray=False):
    shape = (64, 64) if gray else (64, 64, 3)
    low = np.random.default_rng(seed).integers(0, 256, (4, 4, *shape[2:]), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(low).resize((64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def _official():
    """The official set in small: path to content; every fifth image is gray."""
    files = {"wnids.txt": "".join(f"{wnid}\n" for wnid in WNIDS).encode()}
    files["words.txt"] = "".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()).encode()
    for label, wnid in enumerate(WNIDS):
        names = [f"{wnid}_{i}.JPEG" for i in range(NUM_TRAIN)]
        for i, name in enumerate(names):
            files[f"train/{wnid}/images/{name}"] = _jpeg(100 * label + i, gray=i % 5 == 0)
        files[f"train/{wnid}/{wnid}_boxes.txt"] = "".join(f"{name}\t0\t0\t62\t62\n" for name in names).encode()
    lines = []
    for i in range(NUM_VAL * len(WNIDS)):
        files[f"val/images/val_{i}.JPEG"] = _jpeg(1000 + i)
        files[f"test/images/test_{i}.JPEG"] = _jpeg(2000 + i)
        lines.append(f"val_{i}.JPEG\t{WNIDS[i * 3 % len(WNIDS)]}\t0\t32\t44\t62\n")
    return files | {"val/val_annotations.txt": "".join(lines).encode()}
