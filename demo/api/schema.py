"""Types of the page's API: what its endpoints take and return."""

from typing import TypedDict


class StoredModel(TypedDict):
    """One version of one model; a broken one has an error and nothing else to tell."""

    reference: str
    aliases: list[str]
    dataset: str
    model: str
    classes: list[str]
    image_size: int
    num_params: int
    metrics: dict[str, float]
    error: str


class StoredSamples(TypedDict):
    """A dataset's images to ask about, as `DATASET:INDEX`."""

    dataset: str
    num: int
    classes: list[str]


class StoreContents(TypedDict):
    """What the store holds."""

    models: list[StoredModel]
    samples: list[StoredSamples]
    sets: list[str]
    """All samples, as NAME:vK: any model can be asked about them."""


class Sample(TypedDict):
    """One stored test image."""

    sample: str
    """What `/compare` takes: DATASET:INDEX."""
    label: str
    image_png: str


class Prediction(TypedDict):
    """A class and how probable it is."""

    class_name: str
    probability: float


class ModelAnswer(TypedDict):
    """One model's answer; one that cannot answer has an error and is empty otherwise."""

    model: str
    predictions: list[Prediction]
    target: str
    target_logit: float
    target_probability: float
    heatmap: list[list[float]]
    unit: str
    limit: float
    clipped: float
    norm: float
    image_png: str
    map_png: str
    overlay_png: str
    error: str


class Comparison(TypedDict):
    """Every model's answer about one image."""

    image: str
    label: str
    answers: list[ModelAnswer]


class AgreementAnswer(TypedDict):
    """How alike two models' maps are by one measure, over some of the images; null where it is undefined."""

    dataset: str
    measure: str
    first: str
    second: str
    condition: str
    mean: float | None
    low: float | None
    high: float | None
    num: int
    num_undefined: int
    ceiling: float | None
    floor_sobel: float | None
    floor_random: float | None
    floor_other_image: float | None
