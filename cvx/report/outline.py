"""The list of sections for both renderings: title, how to read it, W&B panels."""

from dataclasses import dataclass, field

from cvx.report.wandb_panels import (
    Bars,
    Chart,
    Comparer,
    Grid,
    ImportancePanel,
    Lines,
    Media,
    Panel,
    Parallel,
    ScatterPanel,
)


@dataclass(frozen=True)
class Section:
    """One part of the report."""

    key: str
    title: str
    text: tuple[str, ...]
    """What is shown and how to read it, a paragraph each."""
    panels: tuple[Panel, ...] = field(default=())
    """W&B's counterpart; a section without panels is text there."""


PARAMETERS = ("lr", "weight_decay", "batch_size", "label_smoothing", "mixup", "epochs")
"""Hyperparameters that W&B's panels compare."""

SECTIONS = (
    Section(
        "runs",
        "What was trained",
        (
            "One row per model and dataset: the recipe with the best validation accuracy, averaged over its seeds, "
            "with the smallest and largest in brackets. Test images were scored once, with the weights that were best "
            "on validation images; nothing was chosen by them. ECE is the gap between confidence and accuracy: 0 is a "
            "model that is right as often as it says.",
        ),
        (
            Bars("Test accuracy", "test/acc1"),
            Bars("Test calibration error (ECE)", "test/ece"),
            Bars("Images per second while training", "time/images_per_s"),
            Comparer(),
            Media("Every run's own page", ("report",), 1),
        ),
    ),
    Section(
        "lesson",
        "What a vanilla gradient is, and how to read it",
        (
            "A classifier turns an image into one score per class. The vanilla gradient asks of every pixel: if it "
            "became a little brighter, how much would the score of one class rise or fall? That is the derivative of "
            "the score with respect to the pixel (Simonyan et al., 2013, arXiv:1312.6034). It needs one backward pass, "
            "has no settings, and says something true about the model rather than about the method.",
            "How to read a map: bright pixels are those the score is sensitive to, right here, to small changes. That "
            "is not the same as “important”, not the same as “this is why”, and a dark pixel may still matter together "
            "with others. Look for where a map lies, how concentrated it is, and how it differs from another model's "
            "map of the same image; scattered noise in it is normal.",
        ),
    ),
    Section(
        "curves",
        "Learning curves",
        (
            "Validation images are held out of the training set. Runs of one recipe with other seeds share a color: "
            "the line is their mean, the band runs from the lowest to the highest. Where the band is wide, a "
            "difference between two single runs says little.",
        ),
        (
            Lines("Validation accuracy", "val/acc1", "epoch"),
            Lines("Validation loss", "val/loss", "epoch"),
            Lines("Training loss", "train/loss"),
            Lines("Gradient norm", "train/grad_norm"),
            Lines("Learning rate", "lr"),
        ),
    ),
    Section(
        "confusion",
        "What is taken for what",
        (
            "Rows are the true classes, columns the predicted ones; the stronger a cell's color, the larger its share "
            "of the row. The diagonal is what was recognized. Numbers are test images.",
        ),
        (Media("Confusion, shares of each class", ("test/confusion",), 2),),
    ),
    Section(
        "calibration",
        "How sure, and how often right",
        (
            "Test images are put into bins by the model's confidence, the probability of its own answer; a bar is the "
            "share of its bin that is right. On the diagonal a model is as sure as it is right; bars below it mean "
            "that it is too sure (Guo et al., 2017, arXiv:1706.04599). The line of small bars below tells how many "
            "images each bin holds: a bin of few says little.",
        ),
        (
            Media("Accuracy over confidence", ("test/calibration",), 2),
            Lines("Validation calibration error (ECE)", "val/ece", "epoch"),
        ),
    ),
    Section(
        "maps",
        "Gradient maps: models × images",
        (
            "Every model looks at the same images, the first of their class in stored order, so not chosen by looks. "
            "The score that is explained is the logit of the true class. On one scale, brightness can be compared "
            "between models and images; on each map's own scale only places can. Below a map stands how sure the model "
            "is of its prediction, and the prediction itself where it is wrong.",
        ),
        (Media("Maps of the fixed images; the slider is the training step", ("film",), 4),),
    ),
    Section(
        "classes",
        "What region each class draws on",
        (
            "The mean map of a class averages the maps of its images, each divided by its sum, and is drawn in "
            "multiples of a map that is the same everywhere. It assumes that objects lie in the same place of every "
            "image; where they do not, it shows where they lie. Center bias is the map's mean distance from the center "
            "over a uniform map's: below 1 the model looks at the middle. Where masks are known, the mass on the mask "
            "stands beside what a map that knows nothing would get.",
        ),
        (
            Chart("Test accuracy per class", "test/per_class_table", "class", "accuracy"),
            Grid("compare/properties"),
        ),
    ),
    Section(
        "film",
        "The film: maps through training",
        (
            "The same images after every epoch, from the untrained network to the end. Each map is on its own scale: "
            "the film shows where the network looks, and the number below how strongly its score hangs on the pixels.",
        ),
        (
            Lines("Maps of one epoch and the one before: Spearman", "maps/spearman_to_previous", "epoch"),
            Lines("Maps of one epoch and the one before: SSIM", "maps/ssim_to_previous", "epoch"),
            Grid("compare/training"),
            Media("Accuracy, maps and classes through training", ("compare/training_figure",), 1),
        ),
    ),
    Section(
        "agreement",
        "Do the models look at the same places?",
        (
            "Agreement is computed image by image and averaged; brackets hold a 95 % bootstrap interval over images. A "
            "number means something only between its ceiling, the same recipe from another seed, and its floors: the "
            "image's edges, noise, and the model's own maps of other images. Two models with one accuracy may well "
            "look at different places.",
        ),
        (Grid("compare/agreement"), Media("Models × models", ("compare/agreement_figure",), 1)),
    ),
    Section(
        "localization",
        "Do the maps lie on what decides the class?",
        (
            "For images that were drawn, the pixels that decide the class are known. The pointing game asks whether "
            "the strongest pixel is one of them, mass how much of the map lies on them (Arras et al., 2020, "
            "arXiv:2003.07258), rank and AUC whether they are the strongest. Beside it stands chance: what a map "
            "that knows nothing would score.",
        ),
        (
            Lines("Strongest pixel on the mask", "maps/pointing", "epoch"),
            Lines("Share of the map on the mask", "maps/mass_on_mask", "epoch"),
            Grid("compare/localization"),
        ),
    ),
    Section(
        "faithfulness",
        "Does the answer change when the strongest pixels go?",
        (
            "Pixels are taken out, or put in, from the strongest in the map to the weakest, and the model is asked "
            "again. That a curve falls says little: it falls for any order. So beside the model's own maps stand "
            "orders that know nothing of it: random maps, edges of the image, its own maps blurred, and the maps of an "
            "untrained model of the same architecture. Removed pixels become the mean color or a blur, or are imputed "
            "from their neighbors (ROAD; Rong et al., 2022, arXiv:2202.00449).",
        ),
        (Grid("compare/faithfulness"), Media("Removal curves", ("compare/faithfulness_figure",), 1)),
    ),
    Section(
        "sanity",
        "Do the maps depend on what was learned?",
        (
            "What the model learned is taken away block by block, from the output to the input, and its maps are held "
            "against those of the trained model (Adebayo et al., 2018, arXiv:1810.03292). A map that stays is a map of "
            "the image and the architecture, not of what was learned.",
        ),
        (Grid("compare/sanity"), Media("What randomization leaves", ("compare/sanity_figure",), 1)),
    ),
    Section(
        "stability",
        "Are the maps steady?",
        (
            "Max-sensitivity is the largest change of a map under a little noise in the image (Yeh et al., 2019, "
            "arXiv:1901.09392). Beside it stands what training still does to the maps: how like the final ones they "
            "are before training, when the accuracy has settled, and at the last epoch but one.",
        ),
        (Grid("compare/stability"),),
    ),
    Section(
        "embeddings",
        "Logits in the plane",
        (
            "Each point is one test image, placed by the model's logits and colored by its true class. PCA is a "
            "projection: distances along its two axes are real. t-SNE and UMAP are layouts: they keep neighbors "
            "together, but distances between groups, sizes of groups and empty space mean nothing. The numbers are "
            "computed in the layout: silhouette (1: compact, separate classes), kNN (share of points whose 10 "
            "neighbors vote for their class) and trustworthiness (how far neighbors in the picture are neighbors in "
            "logits). Layouts of a dataset's models are turned onto the first one's (Procrustes), so that groups "
            "lie in the same places as far as that goes.",
        ),
        (
            Media("PCA, t-SNE and UMAP of the logits", ("embedding/pca", "embedding/tsne", "embedding/umap"), 3),
            Grid("embedding/table"),
            Grid("compare/embeddings"),
            Grid("compare/alignment"),
        ),
    ),
    Section(
        "sweeps",
        "Sweeps",
        (
            "Each line is one trial, from its hyperparameters to its score. Importance says how "
            "much of the score went with a hyperparameter in these trials, not what causes it.",
        ),
        (
            Parallel("Hyperparameters to validation accuracy", PARAMETERS, "val/acc1"),
            ImportancePanel("val/acc1"),
            ScatterPanel("Learning rate and validation accuracy", "lr", "val/acc1"),
        ),
    ),
    Section(
        "reproduce",
        "How to reproduce this",
        ("The commands, seeds, versions and commit that the numbers above came from.",),
    ),
)
"""All sections, in the order in which they are read."""
