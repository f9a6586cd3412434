"""Folders of small images."""

from PIL import Image


def _save(path, color="red", size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def _birds(path, num=3, **options):
    for name in ("owl", "duck"):
        for i in range(num):
            _save(path / name / f"{i}.png", **options)
    return path
