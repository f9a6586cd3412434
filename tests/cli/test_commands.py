"""The commands: what a person types, what they get, and one clear line when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from small_store import break_card

from cvx import data, models
from cvx.__main__ import COMMANDS, main, usage
from cvx.cli.flags import store_flag
from cvx.store import Store
from cvx.store.runs import list_runs

QUICK = ["--dataset=digits", "--model=resnet10t", "--stem=timm", "--epochs=1", "--batch_size=256", "--warmup_epochs=0"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


def test_help_lists_every_command_with_what_it_does(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert said.strip() == usage().strip()
    for command in COMMANDS:
        (line,) = [line for line in said.splitlines() if line.split()[:1] == [command]]
        assert len(line.split()) > 4


def test_help_imports_no_heavy_library():
    code = (
        "import sys; from cvx.__main__ import main; main(['--help']);"
        " print(sorted({'torch', 'timm', 'gradio'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert code == 0
    assert "usage" in capsys.readouterr().out


def test_a_misspelt_command_is_answered_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "--dataset=cifar11"], "unknown dataset 'cifar11'"),
        (["train", "--config=configs/nothing.yaml"], "no preset"),
        (["evaluate", "nobody"], "no model 'nobody'"),
        (["attribute", "nobody"], "no model 'nobody'"),
        (["import", "--dataset=cifar10", "--model=resnet18", "--weights=nothing.pth"], "no weights file nothing.pth"),
        (["import", "--dataset=digits", "--model=resnet18", "--weights=x.pth", "--name=../x"], "a model's name has"),
        (["starter", "--seeds=0"], "seeds must be at least 1"),
        (["pipeline"], "name the presets to run"),
        (["pipeline", "--epochs=2"], "name the presets to run"),
        (["pipeline", "configs/digits_vit.yaml", "--resume=a-run"], "leave --resume out"),
        (["report", "--name=../x"], "a report's name has letters"),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(argv, said, capsys):
    assert main(argv) == 2
    heard = capsys.readouterr().err.strip()
    assert said in heard and "Traceback" not in heard and len(heard.splitlines()) == 1


def test_ctrl_c_is_told_in_a_word(monkeypatch, capsys):
    def interrupted(root):
        raise KeyboardInterrupt

    monkeypatch.setattr("cvx.store.maintenance.examine", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.strip() == "cvx doctor: stopped"


@pytest.mark.parametrize("switch", [["--if_empty"], ["--if-empty"], ["--if_empty=True"], ["--if_empty", "True"]])
def test_a_switch_may_stand_alone(switch, store):
    break_card(store, "digits-resnet18")
    assert main(["starter", *switch]) == 0 and not (store.root / "runs").exists()


@pytest.mark.parametrize(
    ("artifacts", "flag"),
    [("", ""), ("artifacts", ""), (Path("other"), " --artifacts=other"), ("my store", " '--artifacts=my store'")],
)
def test_the_next_command_finds_the_store(artifacts, flag):
    assert store_flag(artifacts) == flag


@pytest.mark.slow
def test_train_prints_what_came_out_and_the_commands_that_open_it(store, capsys):
    assert main(["train", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "test accuracy" in said and "python -m cvx attribute digits-resnet10t:v0" in said and "demo/app.py" in said
    assert store.models()[0].name == "digits-resnet10t"


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume_and_exits_as_interrupted(tmp_path, data_root):
    flags = [*QUICK[:3], "--epochs=500", f"--artifacts={tmp_path}", f"--data={data_root}"]
    command = [sys.executable, "-m", "cvx", "train", *flags]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not any('"train/loss"' in path.read_text() for path in tmp_path.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    child.send_signal(2)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    (run,) = (tmp_path / "runs").iterdir()
    assert f"--resume={run.name}" in said and "Traceback" not in said
    assert (run / "state" / "state.safetensors").is_file()


def write_presets(folder):
    flags = dict(flag.removeprefix("--").split("=") for flag in QUICK)
    good = folder / "good.yaml"
    good.write_text("".join(f"{key}: {value}\n" for key, value in flags.items()))
    (folder / "bad.yaml").write_text(good.read_text() + "optimizer: adamx\n")
    (folder / "worse.yaml").write_text("learning_rate: 1\n")
    return [str(folder / f"{name}.yaml") for name in ("bad", "worse", "good")]


@pytest.mark.slow
def test_pipeline_goes_on_past_failures_lists_them_and_skips_what_is_done(tmp_path, store, capsys):
    presets = write_presets(tmp_path)
    assert main(["pipeline", *presets]) == 1
    heard = capsys.readouterr()
    assert "failed: bad: unknown optimizer 'adamx'" in heard.err and "unknown field 'learning_rate'" in heard.err
    assert "trained" in heard.out
    assert (store.root / "reports" / "report.html").is_file()
    assert list((store.root / "attributions" / "digits").rglob("*.png"))
    before = [entry.reference for entry in store.models()]
    assert main(["pipeline", presets[-1]]) == 0
    assert "already done" in capsys.readouterr().out
    assert [entry.reference for entry in store.models()] == before


@pytest.mark.slow
def test_a_pipeline_stopped_by_ctrl_c_goes_on_with_the_same_command(tmp_path, store, capsys):
    preset = write_presets(tmp_path)[-1]
    Path(preset).write_text(
        Path(preset).read_text().replace("epochs: 1", "epochs: 3").replace("batch_size: 256", "batch_size: 64")
    )

    def stop_when_training():
        while not [file for file in store.root.glob("runs/*/metrics.jsonl") if "train/" in file.read_text()]:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop_when_training, daemon=True).start()
    assert main(["pipeline", preset]) == 130
    assert "--resume=" in (heard := capsys.readouterr().err) and "or with the command you just gave" in heard
    [unfinished] = list_runs(store.root)
    assert main(["pipeline", preset]) == 0
    [finished] = list_runs(store.root)
    assert finished.name == unfinished.name and finished.summary


@pytest.mark.slow
def test_a_finished_run_whose_model_was_deleted_is_trained_again(tmp_path, store, capsys):
    import shutil

    preset = write_presets(tmp_path)[-1]
    assert main(["pipeline", preset]) == 0
    shutil.rmtree(store.root / "models")
    assert main(["pipeline", preset]) == 0
    assert "already done" not in capsys.readouterr().out
    assert store.models()


def foreign_weights(path, data_root):
    """Save a trained timm model the way other people's scripts do."""
    torch.manual_seed(0)
    splits = data.load("digits", data_root)
    classifier = models.build("resnet10t", 10, 8, 1, mean=splits.mean, std=splits.std, stem="timm")
    torch.save({"state_dict": classifier.net.state_dict(), "epoch": 1}, path)
    return classifier


def test_import_stores_a_foreign_checkpoint_that_every_command_then_uses(tmp_path, store, data_root, capsys):
    classifier = foreign_weights(tmp_path / "theirs.pth", data_root)
    flags = ["--dataset=digits", "--model=resnet10t", "--stem=timm", f"--weights={tmp_path / 'theirs.pth'}"]
    assert main(["import", *flags, f"--artifacts={tmp_path / 'other'}"]) == 0
    again = f"python -m cvx attribute digits-resnet10t:v0 --artifacts={tmp_path / 'other'}"
    assert again in capsys.readouterr().out
    assert main(["import", *flags]) == 0
    said = capsys.readouterr().out
    assert "stored as digits-resnet10t:v0" in said and "near chance" in said
    loaded, card = store.resolve("digits-resnet10t").load()
    inputs = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(inputs), classifier.eval()(inputs))
    assert card.role == "imported" and "test/acc1" in card.metrics
    assert store.datasets() == ["digits"]
    assert main(["evaluate", "digits-resnet10t"]) == 0


def test_import_tells_the_card_which_share_it_validated_on_and_evaluate_takes_the_same(
    tmp_path, store, data_root, capsys
):
    foreign_weights(tmp_path / "theirs.pth", data_root)
    flags = ["--dataset=digits", "--model=resnet10t", "--stem=timm", f"--weights={tmp_path / 'theirs.pth'}"]
    assert main(["import", *flags, "--val_fraction=0.3"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "digits-resnet10t", "--split=val"]) == 0
    num = len(data.load("digits", data_root, val_fraction=0.3).val)
    assert num != len(data.load("digits", data_root).val)
    said = capsys.readouterr().out
    assert f"val ({num} images)" in said and "the numbers are those on the card" in said


def test_import_refuses_weights_that_do_not_fit(tmp_path, store, data_root, capsys):
    foreign_weights(tmp_path / "theirs.pth", data_root)
    flags = ["--dataset=digits", f"--weights={tmp_path / 'theirs.pth'}"]
    assert main(["import", *flags, "--model=resnet18"]) == 2
    assert "do not fit the model" in capsys.readouterr().err
    assert main(["import", *flags, "--model=resnet10t", "--stem=timm", "--mean", "0.1", "0.2"]) == 2
    assert "--mean must have 1 values" in capsys.readouterr().err
    assert store.models() == []


def test_pretrained_weights_offline_are_one_clear_line(store, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["import", "--dataset=digits", "--model=resnet18", "--weights=pretrained"]) == 2
    heard = capsys.readouterr().err
    assert "resnet18" in heard and "Traceback" not in heard


@pytest.mark.slow
def test_a_summary_is_strict_json(store):
    assert main(["train", *QUICK]) == 0

    def refuse(constant):
        raise ValueError(constant)

    for path in store.root.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    for path in store.root.rglob("*.jsonl"):
        for line in path.read_text().splitlines():
            json.loads(line, parse_constant=refuse)
