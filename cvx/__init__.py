"""Train image classifiers and see what they look at: the map of the package.

    cli/           one file per command of `python -m cvx`
    pipeline       many presets through everything; skips what is done
    report/        one list of sections, two renderings: an HTML page, a W&B workspace and report
    training/      the loop, one run's session, one step, the saved state
    comparison/    stored models x images: agreement, faithfulness, randomization and more, kept in the store
    maps/          stored models x images: explanations, class summaries, folders of figures
    tracking/      W&B: a sink that streams, artifacts up and down, publish, pull
    metrics/       arrays in, numbers out: of logits, of maps, of embeddings
    sweeps/        a W&B sweep file run with no account: search space, trials, results
    attribution/   tensors in, tensors out: the vanilla gradient, captum's methods, heatmaps, batch sizes
    store/         files on disk: models, versions and aliases, runs, samples; doctor and prune
    models/        any timm model fitted to image size and class count; faster copies; other people's weights
    data/          dataset name to uint8 arrays; augmented batches
    config         TrainConfig and RunOptions: flags and preset files become one
    plotting/      colors, fonts, labels and panels of figures
    files          files written whole or not at all
    names          file names from names of datasets, models and classes
    distributed    the ranks of one job
    progress       the live bar
    processes      how torch's threads wait for each other; where child processes find cvx
    cancellation   end a computation early when nobody waits for it

Imports point down this list, as `lint-imports` checks; CONTRIBUTING.md says more.
"""
