"""Which weights a run judges, keeps, tests and stores, and what its config makes of model and batches.

A model whose last layer has no weights says its bias of every image, so that its accuracy on a split is the share of
one class, and its loss follows.
"""

import math
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from timm.layers import DropPath

from cvx import data
from cvx.config import RunOptions, TrainConfig
from cvx.distributed import Ranks
from cvx.store import Store
from cvx.store.runs import Run
from cvx.training.loop import InterruptedTraining, evaluate_and_record, finish, run_epochs
from cvx.training.saved_state import load_state, save_state
from cvx.training.session import open_session

CONFIG = TrainConfig(dataset="digits", model="test_resnet", epochs=3, batch_size=256, precision="fp32")


@pytest.fixture
def options(tmp_path, data_root):
    return RunOptions(artifacts=tmp_path / "store", data=data_root, device="cpu")


@pytest.fixture(scope="module")
def splits(data_root):
    return data.load("digits", data_root)


def say_always(classifier, label, sureness=1.0):
    """Let a model give one class a higher logit than all others, whatever the image."""
    with torch.no_grad():
        classifier.net.fc.weight.zero_()
        classifier.net.fc.bias.zero_()[label] = sureness


def said(classifier):
    return int(classifier.net.fc.bias.argmax())


def share(split, label):
    return pytest.approx(float((split.labels == label).mean()))


def loss(accuracy, sureness):
    """Return the cross-entropy of ten logits of which one is `sureness` and the others are 0."""
    return pytest.approx(math.log(math.exp(sureness) + 9) - sureness * accuracy, rel=1e-5)


def by_frequency(split):
    """Return the classes, the rarest first."""
    return np.bincount(split.labels).argsort(kind="stable").tolist()


def test_the_moving_average_is_what_is_judged_kept_tested_and_stored(options, splits):
    config = TrainConfig(**{**vars(CONFIG), "ema": 0.9, "epochs": 1, "warmup_epochs": 0.0})
    with open_session(config, options, Ranks(), ()) as session:
        say_always(session.learner.classifier, 3)
        say_always(session.learner.ema.module, 7)
        evaluate_and_record(session, 1)
        summary = finish(session)
    (row,) = Run(options.artifacts / "runs" / summary["run"]).rows()
    assert row["val/acc1"] == share(splits.val, 7) and row["val/loss"] == loss(row["val/acc1"], 1.0)
    assert summary["metrics"]["test/acc1"] == share(splits.test, 7)
    assert said(Store(options.artifacts).resolve(summary["best"]).load()[0]) == 7


def test_the_weights_that_were_best_on_val_are_tested_and_stored_not_the_last(options, splits):
    rare, *_, common = by_frequency(splits.val)
    with open_session(CONFIG, options, Ranks(), ()) as session:
        for epoch, label in ((1, rare), (2, common), (3, rare)):
            say_always(session.learner.eval_model, label)
            evaluate_and_record(session, epoch)
        summary = finish(session)
    assert (splits.val.labels == rare).sum() < (splits.val.labels == common).sum(), "else nothing is best"
    assert summary["best_epoch"] == 2
    assert summary["metrics"]["val/acc1"] == share(splits.val, common)
    assert summary["metrics"]["test/acc1"] == share(splits.test, common)
    store = Store(options.artifacts)
    best, last = (store.resolve(summary[role]) for role in ("best", "last"))
    assert (said(best.load()[0]), said(last.load()[0])) == (common, rare)
    assert last.card.metrics["val/acc1"] == share(splits.val, rare)


@pytest.mark.parametrize(("sureness", "best"), [((1, 2, 3), 1), ((2, 1, 3), 2), ((3, 2, 1), 3), ((2, 2, 2), 1)])
def test_of_equal_accuracies_the_lower_loss_is_best_and_of_equal_losses_the_first(options, sureness, best):
    with open_session(CONFIG, options, Ranks(), ()) as session:
        for epoch, one in enumerate(sureness, start=1):  # right one time in ten: the surer, the higher the loss
            say_always(session.learner.eval_model, 0, float(one))
            evaluate_and_record(session, epoch)
        assert session.best_epoch == best
        losses = [row["val/loss"] for row in session.writer.rows()]
    accuracy = session.best_acc1
    assert losses == [loss(accuracy, one) for one in sureness] and session.best_loss == min(losses)


def test_a_higher_accuracy_is_better_however_high_its_loss(options, splits):
    rare, *_, common = by_frequency(splits.val)
    with open_session(CONFIG, options, Ranks(), ()) as session:
        for epoch, (label, sureness) in enumerate(((rare, 1.0), (common, 30.0), (rare, 1.0)), start=1):
            say_always(session.learner.eval_model, label, sureness)
            evaluate_and_record(session, epoch)
        assert session.best_epoch == 2


def shifted(images):
    """Return every crop that padding by one pixel allows of images 8 x 8."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    return {one.tobytes() for y in range(3) for x in range(3) for one in padded[:, y : y + 8, x : x + 8].copy()}


def share_of_mirrored(session):
    """Return the share of an epoch's images that are no crop of an image, and see that those are one of a mirrored."""
    images = np.asarray(session.splits.train.images)
    plain, mirrored = shifted(images), shifted(images[:, :, ::-1])
    assert len(plain & mirrored) < 0.01 * len(plain), "nearly every image differs from its mirror image"
    seen = [
        one.tobytes()
        for inputs, _ in session.batches.epoch(0)
        for one in (inputs * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    ]
    others = [one for one in seen if one not in plain]
    assert all(one in mirrored for one in others)
    return len(others) / len(seen)


def test_digits_are_cropped_and_never_mirrored(options):
    with open_session(CONFIG, options, Ranks(), ()) as session:
        assert session.config.augment and share_of_mirrored(session) == 0


def test_images_whose_classes_survive_it_are_mirrored_half_of_the_time_unless_augmentation_is_off(options, tmp_path):
    random = np.random.default_rng(0)
    for i in range(200):
        file = tmp_path / "noise" / f"{'ab'[i % 2]}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    mirrored = {}
    for augment in (True, False):
        changes = {"dataset": f"folder:{tmp_path / 'noise'}", "augment": augment, "batch_size": 10}
        with open_session(TrainConfig(**{**vars(CONFIG), **changes}), options, Ranks(), ()) as session:
            mirrored[augment] = share_of_mirrored(session)
    assert 0.3 < mirrored[True] < 0.7 and mirrored[False] == 0


DROPPING = TrainConfig(
    dataset="digits", model="vit_mini", patch_size=4, epochs=1, batch_size=256, drop_path=0.5, precision="fp32",
    warmup_epochs=0.0,
)  # fmt: skip


def test_the_rate_of_stochastic_depth_reaches_the_model_and_its_card(options):
    with open_session(DROPPING, options, Ranks(), ()) as session:
        modules = session.learner.classifier.modules()
        assert max(one.drop_prob for one in modules if isinstance(one, DropPath)) == pytest.approx(0.5)
        assert session.learner.classifier.build_args["drop_path"] == 0.5


def test_the_random_state_goes_on_where_it_was_saved(tmp_path):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.manual_seed(7)
    torch.rand(3)
    save_state(tmp_path / "state", {"net": net}, optimizer, {})
    expected = torch.rand(5)
    torch.manual_seed(0)
    load_state(tmp_path / "state", {"net": net}, optimizer)
    assert torch.equal(torch.rand(5), expected)


def test_a_resumed_run_drops_the_paths_that_it_would_have_dropped_without_the_stop(options):
    def weights(session):
        return torch.cat([weight.detach().flatten() for weight in session.learner.classifier.parameters()])

    with open_session(DROPPING, options, Ranks(), ()) as session:
        run_epochs(session)
        expected = weights(session)
    with open_session(DROPPING, options, Ranks(), ()) as session:
        session.stop_signal = signal.SIGTERM
        with pytest.raises(InterruptedTraining) as caught:
            run_epochs(session)
    assert caught.value.step == 1
    again = RunOptions(**{**vars(options), "resume": caught.value.run})
    with open_session(TrainConfig(), again, Ranks(), ()) as session:
        run_epochs(session)
        assert torch.equal(weights(session), expected)
