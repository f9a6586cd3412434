"""`python -m cvx compare`: tables, files, figures and findings; errors in one line."""

import csv
import io
import json

import pytest
from PIL import Image
from recorded_run import record
from small_store import make_store

from cvx import comparison
from cvx.__main__ import main
from cvx.comparison import tables
from cvx.store import Store
from cvx.tracking import Target, Timeouts, WandbSink


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    make_store(root)
    return root


def run(root, *flags):
    return main(["compare", *flags, f"--artifacts={root}", "--device=cpu"])


def test_two_models_give_tables_a_figure_and_findings(root, capsys):
    assert run(root, "tiles-resnet10t", "tiles-vit_tiny", "--num=6") == 0
    said = capsys.readouterr().out
    folder = root / "compare" / "tiles-resnet10t@v0+tiles-vit_tiny@v0"
    assert str(folder) in said.replace("\n", "") and "CKA" in said
    names = {path.name for path in folder.iterdir()}
    assert {"agreement.csv", "agreement.md", "agreement.tex", "agreement.png", "findings.md"} <= names
    assert {"properties.csv", "localization.csv"} <= names and "sanity.csv" not in names
    rows = list(csv.DictReader(io.StringIO((folder / "agreement.csv").read_text())))
    found = comparison.agreement(Store(root), ["tiles-resnet10t", "tiles-vit_tiny"], comparison.Options(num=6))
    assert float(rows[0]["mean"]) == found.interval("spearman", 0, 1).mean and rows[0]["ceiling"] == ""
    with Image.open(folder / "agreement.png") as figure:
        assert min(figure.size) > 300 and len(figure.convert("RGB").getcolors(10**6)) > 20


@pytest.mark.slow
def test_the_measures_that_ask_often_are_asked_for_by_name(root, capsys):
    assert run(root, "dots-resnet10t", "--measures=sanity,faithfulness,stability", "--num_often=2") == 0
    folder = root / "compare" / "dots-resnet10t@v0"
    assert {"sanity.png", "faithfulness.png", "stability.csv"} <= {path.name for path in folder.iterdir()}
    findings = (folder / "findings.md").read_text()
    assert "of 6 removal tests" in findings and "randomized" in findings


def test_models_of_two_datasets_share_their_properties(root, capsys):
    assert run(root, "tiles-vit_tiny", "dots-resnet10t", "--measures=properties", "--num=4") == 0
    assert "never see the same image" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "name the models to compare"),
        (("tiles-vit_tiny",), "only one"),
        (("tiles-vit_tiny", "dots-resnet10t"), "--measures=properties"),
        (("tiles-vit_tiny", "tiles-resnet10t", "--num=0"), "num must be 1 image or more, got 0"),
        (("tiles-vit_tiny", "tiles-resnet10t", "--num_often=0"), "num_often must be 1 image or more, got 0"),
        (("tiles-vit_tiny", "tiles-resnet10t", "--seed=-1"), "seed must be between 0 and 2147483647, got -1"),
        (("tiles-vit_tiny", "--measures=properties,training"), "its run run-0 is not there"),
        (("tiles-vit_tiny", "--measures=properties,embeddings"), "its run run-0 is not there"),
        (("dots-resnet10t", "--measures=properties,localization"), "no masks"),
        (("tiles-vit_tiny", "tiles-resnet10t", "--measures=mse"), "unknown measure 'mse'; known: agreement"),
        (("dots-resnet10t", "--measures=localization"), "no masks"),
        (("tiles-vit_big", "tiles-resnet10t"), "no model 'tiles-vit_big'"),
    ],
)
def test_what_cannot_be_done_is_one_line(root, capsys, flags, told):
    assert run(root, *flags) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def test_what_cannot_be_done_is_said_before_anything_is_computed(root, capsys):
    assert run(root, "tiles-vit_tiny", "--measures=properties,training", "--num=5") == 2
    assert not capsys.readouterr().out and not (root / "compare" / "tiles-vit_tiny@v0").exists()


@pytest.mark.slow
def test_all_is_all_that_the_models_can_have_and_the_rest_is_named(root, capsys):
    assert run(root, "dots-resnet10t", "--measures=all", "--num=2", "--num_often=1") == 0
    said = capsys.readouterr().err
    for kind in ("agreement", "localization", "training", "embeddings"):
        assert said.count(f"left out: {kind}: ") == 1
    names = {path.stem for path in (root / "compare" / "dots-resnet10t@v0").glob("*.csv")}
    assert names == {"properties", "faithfulness", "sanity", "stability"}


def test_what_is_undefined_for_one_image_is_a_dash(root, capsys):
    assert run(root, "tiles-resnet10t", "tiles-vit_tiny", "--num=1", "--measures=agreement") == 0
    assert "nan" not in (said := capsys.readouterr().out) and "(linear CKA)" in " ".join(said.split())


def test_markdown_and_latex_escape_what_would_end_a_cell():
    head, rows = ["a|b", "c"], [["x_1 & 5 %", "–"]]
    assert tables.markdown(head, rows).splitlines()[0] == "| a\\|b | c |"
    text = tables.latex(head, rows)
    assert "x\\_1 \\& 5 \\% & -- \\\\" in text and text.startswith("\\begin{tabular}{ll}")


@pytest.mark.slow
def test_on_wandb_are_tables_numbers_and_figures_and_the_models_they_are_of(wandb_server, tmp_path, capsys):
    sink = WandbSink(Target("", "maps"), Timeouts(connect=5, finish=3, appear=3), lambda line: None)
    record(tmp_path, sinks=[sink])
    sink.close()
    two = ["tiles-test_resnet:v0", "tiles-test_resnet:v1"]
    flags = ["--num=6", "--num_often=2", "--measures=agreement,faithfulness,localization", "--project=maps"]
    assert run(tmp_path, *two, *flags) == 0
    assert "compare is at http" in capsys.readouterr().err
    every = [one for project in wandb_server.state.projects.values() for one in project.runs.values()]
    (compared,) = [one for one in every if one.fields["jobType"] == "compare"]
    told = json.loads(compared.fields["config"])["compare"]["value"]
    assert (told["models"], told["num"], told["num_often"]) == (two, 6, 2)
    (row,) = wandb_server.history("maps", compared.name)
    options = comparison.Options(num=6)
    check_table(
        wandb_server, compared, row["compare/agreement"], comparison.agreement(Store(tmp_path), two, options).rows()
    )
    places = comparison.localization(Store(tmp_path), two, options)
    assert row["compare/localization/mass/test_resnet_v1"] == pytest.approx(places.interval("mass", 1).mean)
    assert json.loads(compared.fields["summaryMetrics"]).keys() >= {key for key in row if key.startswith("compare/")}
    for kind in ("agreement", "faithfulness"):
        (name,) = row[f"compare/{kind}_figure"]["filenames"]
        assert wandb_server.state.storage[compared.files[name]] == figure(tmp_path, f"{kind}.png")
    used = [version for version in wandb_server.state.versions() if compared in version.used_by]
    digests = {Store(tmp_path).resolve(one).card.sha256 for one in two}
    assert {json.loads(one.metadata)["sha256"] for one in used} == digests and len(used) == 2


def check_table(server, compared, value, rows):
    """The table on W&B holds what programs read from the CSV."""
    table = json.loads(server.state.storage[compared.files[value["path"]]])
    assert table["columns"] == list(rows[0]) and len(table["data"]) == len(rows)
    assert [line[table["columns"].index("mean")] for line in table["data"]] == pytest.approx(
        [one["mean"] for one in rows]
    )


def figure(root, name):
    (path,) = (root / "compare").rglob(name)
    return path.read_bytes()


def test_without_an_account_nothing_is_said_of_wandb_and_insisting_on_one_is_an_error(root, capsys):
    asked = ["tiles-vit_tiny", "--measures=properties", "--num=4"]
    assert run(root, *asked) == 0 and "W&B" not in capsys.readouterr().err
    assert run(root, *asked, "--wandb=on") == 2
    assert "--wandb=on needs an account" in capsys.readouterr().err
