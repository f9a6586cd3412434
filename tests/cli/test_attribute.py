"""`python -m cvx attribute`: what it prints, what it writes, and how it fails."""

import pytest
from explained_store import add, splits_of

from cvx.__main__ import main
from cvx.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "artifacts")
    add(store, splits_of(masks=True))
    add(store, splits_of(masks=True), model="other", seed=1)
    return store


def run(capsys, *argv):
    code = main(["attribute", *argv])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_two_models_are_drawn_and_the_table_says_what_they_look_at_and_where_it_lies(store, capsys):
    code, out, _ = run(capsys, "pets-net", "pets-other", f"--artifacts={store.root}", "--per_class=1")
    assert code == 0
    for name in ("pets-net", "pets-other", "pets-net+pets-other"):
        folder = store.root / "attributions" / "pets" / name
        assert folder.is_dir() and str(folder) in out
    assert "50.0 %" in out and f"python demo/app.py --artifacts={store.root}" in out
    assert not (store.root / "attributions" / "pets" / "pets-net" / "cat_1.png").exists()


@pytest.mark.parametrize("flag", ["--per-class=2", "--per_class=2"])
def test_flags_stand_before_or_after_the_models_with_dashes_or_underscores(store, capsys, flag):
    assert run(capsys, flag, "pets-net", "--targets=pred", "--score=margin")[0] == 0
    folder = store.root / "attributions" / "pets" / "pets-net@v0-pred-margin"
    assert (folder / "cat_1.png").exists() and not (folder / "cat_2.png").exists()


def test_all_draws_every_model_past_a_broken_one_and_names_it(store, capsys):
    broken = store.resolve("pets-net").folder
    (broken / "model.safetensors").write_bytes(b"cut short")
    code, out, err = run(capsys, "--all", f"--artifacts={store.root}", "--per_class=1")
    assert code == 1 and "failed: pets-net:v0" in err and "pets-other:v0" in out
    assert (store.root / "attributions" / "pets" / "pets-other").is_dir()
    assert not (store.root / "attributions" / "pets" / "pets-net").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name the models to draw, or give --all"),
        (["pets-net", "--all"], "or give --all, not both: got pets-net and --all"),
        (["pets-net", "--targets=all", "--wandb=on"], "W&B gets no sheets"),
        (["pets-nett"], "did you mean 'pets-net'?"),
        (["pets-net:v7"], "no version"),
        (["pets-net", "--targets=cow"], "unknown class 'cow'; pets-net knows 'cat'"),
        (["pets-net", "--score=softmax"], "unknown score 'softmax'; known: logit, logprob, margin"),
        (["pets-net", "--split=test"], "unknown dataset 'pets'"),
        (["pets-net", "--device=abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(store, capsys, argv, message):
    code, out, err = run(capsys, *argv, f"--artifacts={store.root}")
    assert code == 2 and message in err and err.count("\n") == 1 and not out
    assert not (store.root / "attributions").exists()


def test_sheets_of_every_class_are_drawn_past_a_broken_model_too(store, capsys):
    (store.resolve("pets-net").folder / "model.safetensors").write_bytes(b"cut short")
    code, out, err = run(capsys, "--all", "--targets=all", f"--artifacts={store.root}", "--per_class=1")
    assert code == 1 and "failed: pets-net:v0" in err and "pets-other@v0-all" in out


@pytest.mark.parametrize("targets", ["label", "all"])
def test_an_empty_store_says_how_to_fill_it(targets, tmp_path, capsys):
    code, _, err = run(capsys, "--all", f"--targets={targets}", f"--artifacts={tmp_path / 'none'}")
    assert code == 2 and "python -m cvx starter" in err
