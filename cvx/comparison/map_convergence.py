"""Convergence of the maps in a run's film while it trains, beside its accuracy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64

from cvx.attribution import to_heatmap
from cvx.data.transforms import fit_masks
from cvx.metrics.agreement import compare, map_features
from cvx.metrics.bootstrap import Interval, interval
from cvx.metrics.convergence import settled, through_epochs
from cvx.metrics.localization import chance, localize
from cvx.store.npz import read_frame
from cvx.store.runs import Run

FRAME_NUMBERS = ("maps/spearman_to_previous", "maps/ssim_to_previous")
"""What training records of each frame of the film but the first: agreement with the frame before."""
MASK_NUMBERS = ("maps/pointing", "maps/mass_on_mask", "maps/mask_share")
"""What it records besides where masks are known; the masks' share is what chance scores."""


@dataclass(frozen=True, eq=False)
class MapConvergence:
    """Agreement between the epochs of one run, over the film's images."""

    run: str
    epochs: tuple[int, ...]
    to_last: dict[str, Float64[np.ndarray, "e n"]]
    """Agreement with the last frame, by measure."""
    to_previous: dict[str, Float64[np.ndarray, "e n"]]
    """Agreement with the frame before; nan for the first."""
    on_mask: dict[str, Float64[np.ndarray, "e n"]]
    """Localization (`cvx.attribution.localization`) of every frame's maps; empty without masks."""
    accuracy: tuple[float, ...]
    """`val/acc1` after each of the epochs; nan where the run did not record it."""

    def interval(self, name: str, frame: int) -> Interval:
        """Return the mean agreement of a frame with the last one."""
        return interval(self.to_last[name][frame])

    def curve(self, name: str = "spearman") -> list[float]:
        """Return the mean agreement of each frame with the last one."""
        return [self.interval(name, frame).mean for frame in range(len(self.epochs))]

    def settled_at(self) -> int:
        """Return the frame from which on the accuracy stays within a tenth of its way to the end; -1 if unknown."""
        return -1 if np.isnan(self.accuracy).any() else settled(self.accuracy)

    def sentence(self, name: str = "spearman") -> str:
        """Say whether the model settles where it looks before or after its accuracy settles.

        Maps settle by the same rule as accuracy: where their agreement with the final ones stays within a tenth of
        its way from the untrained model's to 1. The comparison is with the last frame, so what a schedule that ends
        at a small step freezes counts as final.
        """
        frame = self.settled_at()
        if frame < 0:
            return f"{self.run}: no accuracy beside some of the frames, so nothing is said about what settles first."
        then = self.interval(name, frame)
        maps = settled(self.curve(name))
        order = "have settled by then" if maps <= frame else f"go on changing until epoch {self.epochs[maps]}"
        return (
            f"{self.run}: accuracy has settled by epoch {self.epochs[frame]} of {self.epochs[-1]}; that epoch's maps"
            f" agree with the final ones to {then.text()}, the untrained model's to {self.interval(name, 0).text()}"
            f" (Spearman, {self.to_last[name].shape[1]} images): the maps {order}."
        )


def through_training(run: Run, masks: Bool[np.ndarray, "n h w"] | None = None) -> MapConvergence | None:
    """Read a run's film and compare its frames; None for a run with fewer than two.

    Args:
        masks: Of the film's images, the first of the dataset's samples, where they are known.

    Raises:
        ValueError: If a frame is damaged; the message names it.
    """
    frames = run.frames("film")
    if len(frames) < 2:
        return None
    maps = [_maps(path) for path in frames.values()]
    accuracy = {round(row["epoch"]): row["val/acc1"] for row in run.rows() if "val/acc1" in row}
    to_last, to_previous = through_epochs(maps)
    # A film from before samples were kept at their own size has that of the training.
    places = [] if masks is None else [localize(to_heatmap(one), fit_masks(masks, one.shape[-1])) for one in maps]
    return MapConvergence(
        run=run.name,
        epochs=tuple(frames),
        to_last=to_last,
        to_previous=to_previous,
        on_mask={name: np.stack([place[name] for place in places]) for name in (places[0] if places else ())},
        accuracy=tuple(accuracy.get(epoch, float("nan")) for epoch in frames),
    )


def frame_numbers(
    run: Run, epoch: int, attribution: Float32[np.ndarray, "n c h w"], masks: Bool[np.ndarray, "n h w"] | None
) -> dict[str, float]:
    """Say in numbers what one frame's maps are beside the frame before it, and where they lie.

    The frame before is read from the run's folder, so a run that is continued records what it would have recorded
    without the stop.

    Returns:
        Means over the images for which they are defined, under the keys of FRAME_NUMBERS and, with masks,
        MASK_NUMBERS; a number that is undefined for all images is left out, as are the first frame's two.
    """
    values: dict[str, Float64[np.ndarray, "n"]] = {}
    before = [path for other, path in run.frames("film").items() if other < epoch]
    if before:
        likeness = compare(map_features(attribution), map_features(_maps(before[-1])), ("spearman", "ssim"))
        values |= {f"maps/{name}_to_previous": found for name, found in likeness.items()}
    if masks is not None:
        found = localize(to_heatmap(attribution), masks, ("pointing", "mass"))
        values |= {"maps/pointing": found["pointing"], "maps/mass_on_mask": found["mass"]}
        values["maps/mask_share"] = chance(masks)["mass"]
    return {name: float(np.nanmean(one)) for name, one in values.items() if not np.isnan(one).all()}


def _maps(path: Path) -> Float32[np.ndarray, "n c h w"]:
    return read_frame(path, ("attribution",))["attribution"]
