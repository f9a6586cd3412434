"""Train image classifiers and see what they look at: the map of the package.

    cli/             one file per command of `python -m cvx`
    config           TrainConfig and Place: flags and preset files become one
    pipeline         many configs through everything
    sweeps/          a W&B sweep file run with no account: space, ledger, trials, plots
    report/          one list of sections, two renderings: a page of its own, a W&B workspace and report
    training         the loop; session opens a run, learner is what a step changes, resume its saved state
    explain  figures  models over a split: maps, PNG tree, class pages; their pictures (question: what is asked)
    measures/        models x images: agreement, localization, faithfulness, sanity, with intervals, kept in the store
    comparison       models x images: logits, maps, numbers (demo and commands share it)
    tracking/        W&B: a sink that streams, artifacts up and down, publish, pull
    upkeep/          a store checked (doctor) and cleared (prune)
    records  frames  one run's folder: write and read; one frame of its film or embeddings; Sink
    store  samples   names, versions and aliases: local folders; the test images that travel with models
    attribution/     the vanilla gradient, second opinions, heatmaps, and every measure of maps on arrays
    embedding        logits to 2-D: PCA, t-SNE, UMAP, with separability numbers
    evaluation       a model over a split, each image exactly once
    checkpoint       weights and card on disk, and back to a ready Classifier
    models  stems    any timm model, fitted to image size and class count
    data/            name to uint8 arrays
    metrics  distributed  render  lettering  progress  files  stopping  processes
    folding  tokens  a copy of a model that computes the same sooner (frozen: a model at rest; arithmetic: bfloat16)

Imports point down this list; `lint-imports` checks it.
"""
