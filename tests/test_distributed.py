"""Several ranks do what one would: train a model, score it, draw its maps; and none waits for one that is gone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from explained_store import add, splits_of

from cvx.distributed import Ranks, open_ranks, pick_device
from cvx.store import Store

ONE = [sys.executable]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAIN = ["--dataset=digits", "--model=vit_mini", "--patch_size=4", "--batch_size=128", "--precision=fp32"]
TRAIN += ["--warmup_epochs=0", "--device=cpu", "--wandb=off"]
ENVIRON = {"OMP_NUM_THREADS": "1"}


def run(command, code=0):
    answer = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRON}, timeout=300)
    assert answer.returncode == code, answer.stderr
    return answer


def test_one_process_is_rank_0_of_1():
    with open_ranks("cpu") as ranks:
        assert ranks == Ranks(0, 1, torch.device("cpu")) and ranks.is_main
        assert ranks.any(True) and not ranks.any(False)
        assert float(ranks.mean(torch.tensor(3.0))) == 3.0
        assert ranks.gather("own") == ["own"]
        with pytest.raises(OSError, match="disk"), ranks.raise_on_all_ranks():
            raise OSError("no disk")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used here"):
        pick_device(name)


@pytest.mark.slow
def test_two_ranks_end_within_rounding_of_one(tmp_path, data_root):
    flags = [*TRAIN, "--epochs=1", "--mixup=0.2", f"--data={data_root}"]
    for start, name in ((ONE, "one"), (TWO, "two")):
        run([*start, "-m", "cvx", "train", *flags, f"--artifacts={tmp_path / name}"])
    assert_close(*(Store(tmp_path / name) for name in ("one", "two")))


def assert_close(one, two, atol=1e-4):
    (a, _), (b, _) = (store.resolve("digits-vit_mini:latest").load() for store in (one, two))
    for key, value in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[key], value, rtol=1e-3, atol=atol)


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_with_an_error_and_one_process_carries_on_to_the_same_weights(tmp_path, data_root):
    flags = [*TRAIN, "--epochs=2", f"--data={data_root}"]
    run([*ONE, "-m", "cvx", "train", *flags, f"--artifacts={tmp_path / 'whole'}"])
    job = subprocess.Popen(
        [*TWO, "-m", "cvx", "train", *flags, f"--artifacts={tmp_path / 'cut'}"],
        env={**os.environ, **ENVIRON},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not list((tmp_path / "cut").glob("runs/*/state/state.*")):
            assert job.poll() is None, "training ended before a state was saved"
            time.sleep(0.05)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert job.wait(120) != 0
    finally:
        job.kill()
        job.wait()
    (folder,) = (tmp_path / "cut" / "runs").iterdir()
    assert not (folder / "summary.json").exists()
    places = [f"--artifacts={tmp_path / 'cut'}", f"--data={data_root}", "--device=cpu", "--wandb=off"]
    run([*ONE, "-m", "cvx", "train", f"--resume={folder.name}", *places])
    # AdamW makes more of rounding with every step; another order of images would move weights by 1e-2
    assert_close(*(Store(tmp_path / name) for name in ("whole", "cut")), atol=1e-3)


@pytest.mark.slow
def test_what_fails_on_one_rank_fails_on_all_and_what_they_found_reaches_the_first(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "import json, pathlib, sys\n"
        "from cvx.distributed import open_ranks\n"
        "with open_ranks('cpu') as ranks:\n"
        "    found = ranks.gather(f'of {ranks.rank}')\n"
        "    try:\n"
        "        with ranks.raise_on_all_ranks():\n"
        "            if ranks.rank == 1:\n"
        "                raise OSError(28, 'no room')\n"
        "        said = 'nothing'\n"
        "    except (ValueError, OSError) as error:\n"
        "        said = str(error)\n"
        "    pathlib.Path(sys.argv[1], f'{ranks.rank}.json').write_text(json.dumps([found, said]))\n"
    )
    run([*TWO, str(script), str(tmp_path)])
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == [["of 0", "of 1"], "[Errno 28] no room"] and second == [[], "[Errno 28] no room"]


@pytest.mark.slow
def test_two_ranks_draw_the_tree_of_maps_that_one_draws(tmp_path):
    store = Store(tmp_path / "one")
    add(store, splits_of(num=11, classes=("cat", "dog", "owl"), masks=True))
    shutil.copytree(store.root, tmp_path / "two")
    answers = {}
    for start, name in ((ONE, "one"), (TWO, "two")):
        command = [*start, "-m", "cvx", "attribute", "pets-net", "--per_class=2", "--device=cpu", "--wandb=off"]
        answers[name] = run([*command, f"--artifacts={tmp_path / name}"]).stdout.replace(str(tmp_path / name), "")
    assert answers["one"] == answers["two"]
    one, two = (tmp_path / name / "attributions" / "pets" / "pets-net" for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*.*"))
    assert len(files) == 3 * 3 + 2 and files == sorted(path.relative_to(two) for path in two.rglob("*.*"))
    for file in files:
        if file.suffix != ".npz":
            assert (one / file).read_bytes() == (two / file).read_bytes(), file
    with np.load(one / "maps.npz") as a, np.load(two / "maps.npz") as b:
        for name in a.files:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_ranks_score_a_model_as_one_does_and_the_first_alone_says_so(tmp_path, data_root):
    flags = [*TRAIN, "--epochs=1", f"--artifacts={tmp_path}", f"--data={data_root}"]
    run([*ONE, "-m", "cvx", "train", *flags])
    command = ["-m", "cvx", "evaluate", "digits-vit_mini", f"--artifacts={tmp_path}", "--device=cpu", "--wandb=off"]
    one, two = (run([*start, *command, f"--data={data_root}"]).stdout for start in (ONE, TWO))
    assert one == two and "the numbers are those on the card" in two
