"""Endpoints for scripts: /models and /samples say what the store holds, /compare and /agreement ask models."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from demo.api.schema import AgreementAnswer, Comparison, Sample, StoreContents
from demo.backend.background_loader import BackgroundLoader
from demo.serving.fair_queue import AGREEMENT_QUEUE, MAP_QUEUE
from demo.state.selection import CHOICES, Choice


class Endpoints:
    """What scripts can call."""

    def __init__(self, loader: BackgroundLoader):
        self._loader = loader
        gr.api(self.models, api_name="models", concurrency_limit=4)
        gr.api(self.samples, api_name="samples", concurrency_limit=4)
        gr.api(self.agreement, api_name="agreement", **AGREEMENT_QUEUE)
        gr.api(self.compare, api_name="compare", **MAP_QUEUE)

    def models(self) -> StoreContents:
        """List the stored models, broken ones with what is wrong, and the datasets that have samples to ask about."""
        from demo.api import handlers

        return handlers.list_store(self._loader.service.catalog())

    def samples(self, dataset: str, class_name: str = "", first: int = 0, num: int = 20) -> list[Sample]:
        """List stored test images of a dataset.

        Args:
            dataset: One that `/models` lists under samples, or a NAME or NAME:vK that it lists under sets.
            class_name: Only images of this class; empty means all.
            first: How many to leave out before the first.
            num: How many to list, at most 100.

        Returns:
            Each image's name for `/compare`, its label, and the image itself as a PNG data URI.
        """
        from demo.api import handlers

        with _errors_as_answers():
            return handlers.samples(self._loader.service.catalog(), dataset, class_name, first, num)

    def agreement(
        self, models: list[str], num: int = 200, measure: str = "", samples: str = ""
    ) -> list[AgreementAnswer]:
        """Say how alike the maps of two or more models of the same images are, with ceiling and floors.

        Args:
            models: References: NAME, NAME:best, NAME:latest, NAME:v3 or NAME@RUN.
            num: How many stored test images to compare on, at most 1000.
            measure: spearman, spearman_signed, cosine, topk, ssim or hog; empty means all of them.
            samples: NAME or NAME:vK of the images, of any dataset whose classes the models know; empty means the
                models' own.

        Returns:
            One entry per pair, measure and condition (all, both_right, disagree): the mean over images with its 95 %
            bootstrap interval; the ceiling is the same recipe from other seeds, the floors are edges of the image,
            noise, and the models' own maps of other images.
        """
        from demo.api import handlers

        with _errors_as_answers():
            return handlers.agreement(self._loader.service, models, num, measure, samples)

    def compare(
        self,
        models: list[str],
        sample: str = "",
        image: FileData | None = None,
        target: str = "pred",
        score: str = "logit",
        method: str = "gradient",
        reduction: str = "max",
        scale: str = "shared",
        limit: float = 1.0,
        clip: float = 99.0,
        opacity: float = 60.0,
    ) -> Comparison:
        """Show one image to several models and explain one score of each.

        Args:
            models: References: NAME, NAME:best, NAME:latest, NAME:v3 or NAME@RUN.
            sample: DATASET:INDEX, or NAME:vK:INDEX of any stored samples. Either this or an image.
            image: An image file of any kind and size.
            target: pred, label, runner_up (each model's second most probable class), difference (the predicted class's
                score less the runner-up's), or the name of a class that every model knows.
            score: logit, logprob or margin (the logit less the mean of all).
            method: gradient, smoothgrad or integrated_gradients.
            reduction: max, sum or signed: how the channels' values become one.
            scale: shared, each, or absolute (then `limit` is where it ends).
            limit: The value at the end of an absolute scale.
            clip: Percentile of the magnitudes at which a scale ends.
            opacity: Of the map in the overlay, in percent.

        Returns:
            Predictions, the unscaled heatmap, its scale, and PNG data URIs: a sample at its own resolution, an image
            at the model's.
        """
        from demo.api import handlers

        with _errors_as_answers():
            choice = Choice(
                target=target if target in CHOICES["target"] else "class",
                score=score,
                method=method,
                reduction=reduction,
                scale=scale,
                limit=limit,
                clip=clip,
                opacity=opacity,
            )
            return handlers.compare(self._loader.service, models, sample, _path(image), target, choice)


@contextlib.contextmanager
def _errors_as_answers() -> Iterator[None]:
    """Answer an error with its message."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _path(image: Any) -> Path | None:
    """Return the file of an upload.

    Gradio checks that a file lies in its upload folder where the value says that it is a file; one that does not
    say so would not have been checked.
    """
    if not image:
        return None
    if not isinstance(image, dict) or image.get("meta", {}).get("_type") != "gradio.FileData" or not image.get("path"):
        raise ValueError("image must be a file: wrap its path in gradio_client.handle_file")
    return Path(image["path"])
