import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cvx.data.augment import Augmentation, Mix, crop_and_flip, draw, draw_mix, erase, mix_images
from cvx.data.batches import Batches
from cvx.data.dataset_types import Split

EVERYTHING = Augmentation(crop=True, flip=True, erase=0.5, mixup=0.4, cutmix=1.0)
NUM_CLASSES = 5


def make_split(num=50, size=16, channels=3, seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (num, size, size, channels), dtype=np.uint8)
    return Split(images, random.integers(0, NUM_CLASSES, num), np.arange(num))


def make_batches(split=None, batch_size=8, augmentation=EVERYTHING, seed=3, **options):
    return Batches(split or make_split(), batch_size, augmentation, NUM_CLASSES, seed=seed, device="cpu", **options)


def assert_same(some, others):
    some, others = list(some), list(others)
    assert len(some) == len(others) > 0
    for (inputs, targets), (other_inputs, other_targets) in zip(some, others, strict=True):
        assert torch.equal(inputs, other_inputs)
        assert torch.equal(targets, other_targets)


def digest(batches):
    total = hashlib.sha256()
    for inputs, targets in batches.epoch(2):
        total.update(inputs.contiguous().numpy().tobytes())
        total.update(targets.numpy().tobytes())
    return total.hexdigest()


def plain_split(num=40, size=12):
    """Images of one gray each, which is known by the label: what is mixed can be read off the pixels."""
    labels = np.arange(num) % NUM_CLASSES
    images = np.broadcast_to((labels * 50).astype(np.uint8)[:, None, None, None], (num, size, size, 3))
    return Split(np.ascontiguousarray(images), labels, np.arange(num))


def test_without_augmentation_inputs_are_exactly_the_pixels_over_255():
    split = make_split(num=24)
    rows = {split.images[i].tobytes(): i for i in range(len(split))}
    seen = []
    for inputs, targets in make_batches(split, augmentation=None).epoch(0):
        assert inputs.dtype == targets.dtype == torch.float32
        images = (inputs * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        assert torch.equal(inputs, torch.tensor(images).permute(0, 3, 1, 2).float() / 255)
        found = [rows[image.tobytes()] for image in images]
        assert torch.equal(targets.argmax(1), torch.tensor(split.labels[found]))
        assert torch.equal(targets.sort(dim=1).values[:, -2:], torch.tensor([[0.0, 1.0]]).expand(8, 2))
        seen += found
    assert sorted(seen) == list(range(24))


def test_the_last_incomplete_batch_is_dropped_and_nothing_else():
    split = plain_split(num=43)
    images = np.arange(43, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), dtype=np.uint8)
    batches = make_batches(Split(images, split.labels, split.ids), augmentation=None)
    assert batches.steps_per_epoch == 5
    seen = torch.cat([inputs[:, 0, 0, 0] for inputs, _ in batches.epoch(0)])
    assert len(seen) == 40
    assert len(seen.unique()) == 40


def test_inputs_lie_channels_last_in_memory():
    for augmentation in (None, EVERYTHING):
        inputs, _ = next(make_batches(augmentation=augmentation).epoch(0))
        assert inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_batches_in_another_process():
    code = "import test_batches as t; print(t.digest(t.make_batches()))"
    here = Path(__file__).parent
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    assert run.stdout.strip() == digest(make_batches())


def test_another_seed_and_another_epoch_give_other_batches():
    assert digest(make_batches(seed=3)) != digest(make_batches(seed=4))
    first, second = (next(make_batches().epoch(epoch))[0] for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_an_epoch_entered_at_a_step_goes_on_as_if_it_had_run_up_to_there():
    batches = make_batches()
    whole = list(batches.epoch(1))
    for start in range(batches.steps_per_epoch):
        assert_same(batches.epoch(1, start=start), whole[start:])
    assert list(batches.epoch(1, start=batches.steps_per_epoch)) == []


@pytest.mark.parametrize("world", [2, 4])
def test_the_batches_of_the_ranks_together_are_the_batches_of_one(world):
    ranks = [make_batches(rank=rank, world=world).epoch(0) for rank in range(world)]
    steps = [zip(*step, strict=True) for step in zip(*ranks, strict=True)]
    together = [tuple(torch.cat(parts) for parts in step) for step in steps]
    assert_same(together, make_batches().epoch(0))


def test_no_generator_of_the_process_is_touched():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(make_batches().epoch(0))
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_a_read_only_memory_map_serves_and_is_not_written_to(tmp_path):
    split = make_split()
    np.save(tmp_path / "images.npy", split.images)
    np.save(tmp_path / "labels.npy", split.labels)
    mapped = Split(
        np.load(tmp_path / "images.npy", mmap_mode="r"),
        np.load(tmp_path / "labels.npy", mmap_mode="r"),
        split.ids,
    )
    before = split.images.copy()
    assert_same(make_batches(mapped).epoch(0), make_batches(split).epoch(0))
    np.testing.assert_array_equal(split.images, before)


def test_one_channel_stays_one_channel():
    inputs, targets = next(make_batches(make_split(channels=1)).epoch(0))
    assert inputs.shape == (8, 1, 16, 16)
    assert targets.shape == (8, NUM_CLASSES)


@pytest.mark.parametrize("size", [4, 8, 33])
def test_any_size_of_image_can_be_augmented(size):
    for inputs, targets in make_batches(make_split(size=size)).epoch(0):
        assert inputs.shape[2:] == (size, size)
        assert float(inputs.min()) >= 0
        assert float(inputs.max()) <= 1 + 1e-6
        assert torch.allclose(targets.sum(dim=1), torch.ones(8), atol=1e-6)


def test_a_crop_is_that_of_reflection_padding_and_a_flip_comes_after_it():
    images = torch.tensor(make_split(num=9, size=10).images)
    shift = torch.tensor([[y, x] for y in (-3, 0, 2) for x in (-1, 0, 3)])
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (3, 3, 3, 3), mode="reflect")
    found = crop_and_flip(images, shift, torch.arange(9) % 2 == 1)
    for i, (y, x) in enumerate(shift.tolist()):
        expected = padded[i, :, 3 + y : 13 + y, 3 + x : 13 + x]
        expected = expected.flip(-1) if i % 2 else expected
        assert torch.equal(found[i].permute(2, 0, 1).float(), expected)


def test_crops_reach_an_eighth_of_the_size_each_way_and_no_farther():
    draws = draw(Augmentation(crop=True), (2000, 32, 16, 3), np.random.default_rng(0))
    assert set(draws.shift[:, 0]) == set(range(-4, 5))
    assert set(draws.shift[:, 1]) == {-2, -1, 0, 1, 2}


def test_images_are_mirrored_only_if_asked_and_then_about_half_of_them():
    split = make_split(num=200)
    plain = torch.tensor(split.images).permute(0, 3, 1, 2).float() / 255
    whole = {
        flip: next(make_batches(split, 200, Augmentation(flip=flip), seed=0).epoch(0))[0] for flip in (False, True)
    }
    order = [int((plain == image).flatten(1).all(1).nonzero()) for image in whole[False]]
    assert sorted(order) == list(range(200))
    mirrored = (whole[True] == plain[order].flip(-1)).flatten(1).all(1)
    kept = (whole[True] == plain[order]).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 70 <= int(mirrored.sum()) <= 130


def test_a_switch_does_not_change_the_other_draws():
    shape = (64, 16, 16, 3)
    alone = draw(Augmentation(crop=True), shape, np.random.default_rng(5))
    together = draw(Augmentation(crop=True, flip=True, erase=1.0), shape, np.random.default_rng(5))
    np.testing.assert_array_equal(alone.shift, together.shift)
    assert not alone.flip.any()
    assert not alone.boxes.any()


def test_erasing_fills_a_rectangle_with_one_color_and_leaves_the_rest():
    images = torch.tensor(make_split(num=3, size=8).images)
    boxes = torch.tensor([[1, 2, 4, 8], [0, 0, 8, 8], [0, 0, 0, 0]])
    colors = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8)
    expected = images.clone()
    expected[0, 1:4, 2:8] = colors[0]
    expected[1] = colors[1]
    assert torch.equal(erase(images, boxes, colors), expected)


def test_erased_rectangles_are_as_frequent_and_as_large_as_asked():
    draws = draw(Augmentation(erase=0.25), (4000, 64, 64, 3), np.random.default_rng(0))
    high, wide = draws.boxes[:, 2] - draws.boxes[:, 0], draws.boxes[:, 3] - draws.boxes[:, 1]
    erased = high > 0
    assert 0.22 < erased.mean() < 0.28
    assert (draws.boxes >= 0).all()
    assert (draws.boxes <= 64).all()
    area = (high * wide)[erased] / 64**2
    assert 0.015 < area.min() < 0.03
    assert 0.30 < area.max() < 0.345
    aspect = (high / np.maximum(wide, 1))[erased]
    assert 0.25 < aspect.min() < 0.35
    assert 1 / 0.35 < aspect.max() < 1 / 0.25


def test_every_draw_of_erase_probability_one_erases_something():
    draws = draw(Augmentation(erase=1.0), (500, 4, 4, 1), np.random.default_rng(0))
    assert (draws.boxes[:, 2:] > draws.boxes[:, :2]).all()


def test_cutmix_targets_are_the_shares_of_pixels():
    for inputs, targets in make_batches(plain_split(), augmentation=Augmentation(cutmix=1.0)).epoch(0):
        classes = (inputs * 255 / 50).round()
        for k in range(NUM_CLASSES):
            share = (classes == k).float().mean(dim=(1, 2, 3))
            assert torch.allclose(share, targets[:, k], atol=1e-6)


def test_mixup_blends_pixels_as_it_blends_targets():
    values = torch.arange(NUM_CLASSES) * 50 / 255
    mixed = 0
    for inputs, targets in make_batches(plain_split(), augmentation=Augmentation(mixup=1.0)).epoch(0):
        assert torch.allclose(inputs.mean(dim=(1, 2, 3)), targets @ values, atol=1e-6)
        assert torch.allclose(targets.sum(dim=1), torch.ones(8), atol=1e-6)
        mixed += int((targets.max(dim=1).values < 1).sum())
    assert mixed > 0


def test_mixing_keeps_the_share_of_the_image_itself():
    own, other = (torch.tensor(make_split(num=4, seed=seed).images) for seed in (1, 2))
    blended = mix_images(own.clone(), other.clone(), Mix(np.arange(4), 0.75, None))
    expected = (0.75 * own.double() + 0.25 * other.double()) / 255
    assert torch.allclose(blended.double(), expected.permute(0, 3, 1, 2), atol=1e-6)
    pasted = mix_images(own.clone(), other.clone(), Mix(np.arange(4), 0.5, (2, 3, 5, 16)))
    expected = own.clone()
    expected[:, 2:5, 3:16] = other[:, 2:5, 3:16]
    assert torch.equal(pasted, expected.permute(0, 3, 1, 2).float() / 255)


def test_a_batch_gets_one_of_mixup_and_cutmix_where_both_are_on():
    random = np.random.default_rng(0)
    mixes = [draw_mix(Augmentation(mixup=0.2, cutmix=1.0), (8, 16, 16, 3), random) for _ in range(400)]
    assert 160 < sum(mix.box is None for mix in mixes) < 240
    assert all(0 <= mix.share <= 1 for mix in mixes)
    assert all(sorted(mix.partners) == list(range(8)) for mix in mixes)


def test_mixup_shares_have_the_moments_of_the_beta_distribution():
    random = np.random.default_rng(0)
    shares = [draw_mix(Augmentation(mixup=0.4), (2, 8, 8, 1), random).share for _ in range(3000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size must be from 1 to the 50 training images, got 51"):
        make_batches(batch_size=51)
    with pytest.raises(ValueError, match="got 0"):
        make_batches(batch_size=0)


def test_a_batch_that_the_ranks_cannot_share_evenly_is_refused():
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        make_batches(batch_size=8, world=3)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from cvx.data.batches import Batches
from cvx.data.dataset_types import Split

images = np.lib.format.open_memmap(sys.argv[1], "w+", np.uint8, (20_000, 64, 64, 3))
images[:, 0, 0, 0] = np.arange(20_000) % 256
images.flush()
del images
images = np.load(sys.argv[1], mmap_mode="r")
batches = Batches(Split(images, np.arange(20_000) % 256, np.arange(20_000)), 64, None, 256, seed=0, device="cpu")
next(batches.epoch(0))
lines = Path("/proc/self/status").read_text().splitlines()
now = next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (now + 100_000_000,) * 2)
try:
    np.array(images)
except MemoryError:
    print("too large to hold")
# plain answers: a tensor that stays pins the memory that the batch before it left, and the heap grows by batches
hits = [((255 * x[:, 0, 0, 0]).round() == y.argmax(1)).all().item() for x, y in batches.epoch(1)]
print(len(hits), all(hits))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux limits a process's private memory")
def test_an_epoch_goes_through_arrays_larger_than_the_memory_the_process_may_take(tmp_path):
    """246 MB are mapped where 100 MB may be taken."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "images.npy")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["too large to hold", "312 True"]
