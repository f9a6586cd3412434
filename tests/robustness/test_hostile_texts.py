"""Presets, sweeps and metrics of any text are read or refused by name, and are never more than plain values."""

import json
from urllib.parse import parse_qsl

import pytest
from damage import JSON, fuzz, mutations
from hypothesis import given
from hypothesis import strategies as st
from kept_store import SWEEP, add_sweep

from cvx import config
from cvx.store import runs
from cvx.store.maintenance import examine
from cvx.sweeps.sweep_file import read as read_sweep
from cvx.tracking.run_link import FILE
from cvx.tracking.run_link import read_link as read_wandb_link
from demo.state.selection import read_link
from demo.state.tab_link import TabLink

# YAML


@pytest.mark.parametrize(
    "text",
    [
        "lr: !!python/object/apply:os.system ['touch executed']",
        "lr: !!python/name:os.system",
        "!!python/object/new:os.system [touch executed]",
        "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nlr: *b",
        "[" * 5000,
        "lr: " + "9" * 6000,
        "? [a, b]\n: 1",
        "lr: {a: 1}",
        "\x00",
        "lr: 2026-01-01",
        "- 1",
        "",
    ],
)
def test_a_preset_or_sweep_that_is_more_than_plain_values_is_refused_by_name(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hostile.yaml"
    file.write_text(text)
    for read in (config.preset, read_sweep):
        with pytest.raises(ValueError, match=r"hostile\.yaml") as caught:
            read(file)
        assert len(str(caught.value)) < 2000
    assert [path.name for path in tmp_path.iterdir() if path.name == "executed"] == []


def test_a_few_lines_that_stand_for_a_billion_values_are_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 10)]
    file = tmp_path / "laughs.yaml"
    file.write_text("\n".join([*lines, "lr: *a9"]))
    for read in (config.preset, read_sweep):
        with pytest.raises(ValueError, match=r"laughs\.yaml: .* aliases stand for more than 1,048,576 bytes"):
            read(file)


@pytest.mark.parametrize("text", ["lr: &a [*a]", "&a lr: {seed: *a}\n<<: &b {<<: *b}", "&all {lr: 0.1, again: *all}"])
def test_an_alias_of_what_it_is_a_part_of_is_refused(tmp_path, text):
    file = tmp_path / "ring.yaml"
    file.write_text(text)
    for read in (config.preset, read_sweep):
        with pytest.raises(ValueError, match=r"ring\.yaml: .*a value that it is a part of"):
            read(file)


def test_an_enormous_yaml_file_is_refused_unread(tmp_path):
    file = tmp_path / "large.yaml"
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ValueError, match=r"large\.yaml has 1,048,577 bytes"):
        config.preset(file)


@fuzz
@given(data=st.data())
def test_a_sweep_of_any_text_is_read_or_refused_by_name(tmp_path, data):
    file = tmp_path / "fuzzed.yaml"
    file.write_bytes(data.draw(mutations(SWEEP.encode())))
    try:
        read_sweep(file)
    except ValueError as error:
        assert "fuzzed.yaml" in str(error)


@fuzz
@given(data=st.data())
def test_a_preset_of_any_text_is_read_or_refused_by_name(tmp_path, data):
    text = "dataset: digits\nmodel: resnet18\nepochs: 3\nlr: 0.1\naugment: True\n"
    file = tmp_path / "fuzzed.yaml"
    file.write_bytes(data.draw(mutations(text.encode())))
    try:
        config.preset(file)
    except ValueError as error:
        assert "fuzzed.yaml" in str(error)


# records


@fuzz
@given(data=st.data())
def test_metrics_of_any_bytes_are_rows_or_refused_by_name(tmp_path, data):
    rows = b'{"step": 1, "epoch": 0.5, "time": 1.0}\n{"step": 2, "epoch": 1.0, "time": 2.0}\n'
    (tmp_path / "metrics.jsonl").write_bytes(data.draw(mutations(rows)))
    try:
        found = runs.read_rows(tmp_path)
    except ValueError as error:
        assert "metrics.jsonl" in str(error)
        return
    assert all(isinstance(row, dict) for row in found)


@fuzz
@given(data=st.data())
def test_a_sweeps_ledger_of_any_bytes_is_named_or_read(ledger, tmp_path, data):
    (tmp_path / "sweeps" / "small").mkdir(parents=True, exist_ok=True)
    for name in ("sweep.json", "trials.journal"):
        content = (ledger / name).read_bytes()
        fuzzed = data.draw(mutations(content)) if data.draw(st.booleans()) else content
        (tmp_path / "sweeps" / "small" / name).write_bytes(fuzzed)
    assert {one.where.parts[len(tmp_path.parts)] for one in examine(tmp_path)} <= {"sweeps"}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    root = tmp_path_factory.mktemp("ledger") / "store"
    root.mkdir()
    add_sweep(root)
    return root / "sweeps" / "small"


@fuzz
@given(data=st.data())
def test_where_a_run_is_on_wandb_in_any_words_is_read_or_refused_by_name(tmp_path, data):
    content = {"format": 1, "entity": "a", "project": "b", "id": "c", "complete": True, "artifacts": {"best": "x"}}
    name = data.draw(st.sampled_from(sorted(content)))
    if data.draw(st.booleans()):
        content[name] = data.draw(JSON)
    else:
        del content[name]
    (tmp_path / FILE).write_text(json.dumps(content))
    try:
        link = read_wandb_link(tmp_path)
    except (ValueError, TypeError) as error:  # in tests annotations are checked even before
        assert FILE in str(error) or "Type-check error" in str(error)
        return
    assert link is not None


# query strings


QUERIES = st.text(max_size=200) | mutations(
    b"tab=film&datasets=digits&models=resnet18&target=class&scale=absolute&limit=0.5&clip=98&image.digits=3"
    b"&class.digits=7&film.run=a&film.epoch=2&points.method=tsne"
).map(lambda text: text.decode(errors="replace"))


@fuzz
@given(QUERIES)
def test_a_query_string_of_any_text_is_a_choice_that_can_be_made(text):
    pairs = parse_qsl(text)
    choice, picks = read_link(pairs)
    again, picked = read_link(parse_qsl(choice.link(picks)))
    assert again == choice
    assert all(picked[name].index == picks[name].index for name in choice.datasets if name in picks)
    for tab in ("film", "points", "runs"):
        link = TabLink(tab, pairs)
        assert link.one("run", ["x", "y"]) in ("x", "y") and set(link.some("run", ["x"])) <= {"x"}
        assert 0 <= link.number("epoch", most=60) <= 60
