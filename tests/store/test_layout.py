"""Where a store keeps what: folders of stores made long ago must be found."""

from cvx.store import Store
from cvx.store.layout import StoreLayout
from cvx.store.runs import Run, RunWriter, list_runs


def test_folders_have_the_names_that_stores_always_had(tmp_path):
    names = {"models", "samples", "runs", "measures", "sweeps", "attributions", "reports"}
    found = {name: getattr(StoreLayout(tmp_path), f"{name}_root") for name in names}
    assert found == {name: tmp_path / name for name in names}
    assert StoreLayout(str(tmp_path)).comparisons_root == Store(tmp_path).comparisons_root == tmp_path / "compare"


def test_a_run_knows_its_files_and_its_store(tmp_path):
    store = Store(tmp_path)
    run = store.run("a")
    assert (run.exists, run.done, list_runs(tmp_path)) == (False, False, [])
    writer = RunWriter.create(tmp_path / "runs" / "a", {"config": {}})
    assert (run.exists, run.done, run.summary) == (True, False, None)
    assert run == Run(writer.folder) and run.store_root == tmp_path
    assert list_runs(tmp_path) == [run]
    writer.log(1, 0.5, {"loss": 2.0})
    assert run.metrics_path == tmp_path / "runs" / "a" / "metrics.jsonl" and run.metrics_path.is_file()
    writer.embeddings("test", 1)
    assert run.final_embeddings == tmp_path / "runs" / "a" / "embeddings" / "test.npz"
    assert run.final_embeddings.is_file()
    writer.finish({"test/acc1": 0.5})
    assert run.done and run.summary is not None and run.summary["test/acc1"] == 0.5
    assert run.state == tmp_path / "runs" / "a" / "state"
