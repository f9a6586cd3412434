"""Several ranks train one model as one would."""

import os
import subprocess
import sys

import pytest
import torch

from cvx.distributed import Ranks, pick_device, ranks
from cvx.store import Store


def test_one_process_is_rank_0_of_1():
    with ranks("cpu") as here:
        assert here == Ranks(0, 1, torch.device("cpu")) and here.is_main
        assert here.any(True) and not here.any(False)
        assert float(here.mean(torch.tensor(3.0))) == 3.0


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used here"):
        pick_device(name)


@pytest.mark.slow
def test_two_ranks_end_within_rounding_of_one(tmp_path, data_root):
    flags = ["--dataset=digits", "--model=vit_mini", "--patch_size=4", "--epochs=1", "--batch_size=128", "--mixup=0.2"]
    flags += ["--precision=fp32", "--warmup_epochs=0", f"--data={data_root}", "--device=cpu"]
    one = [sys.executable, "-m", "cvx", "train", *flags, f"--artifacts={tmp_path / 'one'}"]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    two += ["-m", "cvx", "train", *flags, f"--artifacts={tmp_path / 'two'}"]
    for command in (one, two):
        answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert answer.returncode == 0, answer.stderr
    (a, _), (b, _) = (Store(tmp_path / name).resolve("digits-vit_mini").load() for name in ("one", "two"))
    for key, value in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[key], value, rtol=1e-3, atol=1e-4)
