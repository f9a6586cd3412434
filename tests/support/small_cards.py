"""A card of a small made-up model."""

import dataclasses

from cvx.store.checkpoint import Card


def make_card(classifier, **changes):
    build = classifier.build_args
    card = Card(
        name="digits-resnet18",
        dataset="digits",
        model="resnet18",
        build=build,
        classes=("a", "b", "c"),
        image_size=8,
        in_chans=1,
        mean=tuple(build["mean"]),
        std=tuple(build["std"]),
        metrics={"val/acc1": 0.5},
    )
    return dataclasses.replace(card, **changes)
