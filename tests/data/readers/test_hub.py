import http.server
import threading
import time

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

from cvx.data import load
from cvx.data.readers import cifar, hub
from cvx.data.readers.hub_table import Columns


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch, tmp_path):
    """No test may reach the Hub, nor read or fill the caches of whoever runs it."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _pictures(num, size=6):
    return [Picture.new("RGB", (size, size), (10 * i, 0, 0)) for i in range(num)]


def _repository(folder, parts, image="image", label="label", names=("owl", "duck"), size=6):
    """Write Parquet files as they lie in repositories of the Hub."""
    features = Features({image: Image(), label: ClassLabel(names=list(names))})
    (folder / "data").mkdir(parents=True)
    for part, labels in parts.items():
        rows = Dataset.from_dict({image: _pictures(len(labels), size), label: labels}, features)
        rows.to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("org/birds", Columns("org/birds")),
        ("hub:org/birds", Columns("org/birds")),
        ("org/birds/small", Columns("org/birds", config="small")),
        ("org/birds#fine", Columns("org/birds", label="fine")),
        ("org/birds/small#fine", Columns("org/birds", config="small", label="fine")),
    ],
)
def test_a_name_says_repository_config_and_label_column(name, columns):
    assert hub.parse(name) == columns


@pytest.mark.parametrize("name", ["mnist", "/birds", "org/", "a/b/c/d", "", "../birds", "org/..", "org/birds/.."])
def test_a_name_of_another_form_is_an_error_with_an_example(name, tmp_path):
    with pytest.raises(ValueError, match="write hub:ORG/NAME, for example hub:uoft-cs/cifar10"):
        hub.source(name, tmp_path)


def test_a_dataset_is_kept_in_the_data_root_and_read_from_there_without_a_network(tmp_path, capsys):
    repository = _repository(tmp_path / "birds", {"train": [0, 1, 1], "test": [1]})
    (repository / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Birds\n")
    folder = tmp_path / "root" / "hub" / "org--birds"
    hub.convert(str(repository), "", folder)
    said = capsys.readouterr().err
    assert str(repository) in said
    assert str(folder) in said
    (repository / "data" / "train-00000-of-00001.parquet").unlink()
    source = hub.source("org/birds", tmp_path / "root")
    assert source.classes == ("owl", "duck")
    assert source.info.licence == "cc-by-4.0"
    assert source.parts["train"].labels.tolist() == [0, 1, 1]
    assert source.parts["train"].images[2][0, 0].tolist() == [20, 0, 0]
    assert len(source.parts["test"].images) == 1
    assert hub.source("org/birds", tmp_path / "root").fingerprint == source.fingerprint


def test_the_repositorys_own_files_put_into_the_data_root_are_read(tmp_path):
    _repository(tmp_path / "hub" / "org--birds", {"train": [0, 1], "validation": [1]})
    for _ in range(2):
        source = hub.source("org/birds", tmp_path)
        assert source.parts["train"].labels.tolist() == [0, 1]
        assert source.parts["val"].labels.tolist() == [1]


def test_images_that_lie_beside_the_table_are_copied_in(tmp_path):
    for name, color in (("owl", "red"), ("duck", "blue")):
        (tmp_path / "birds" / "train" / name).mkdir(parents=True)
        Picture.new("RGB", (6, 6), color).save(tmp_path / "birds" / "train" / name / "a.png")
    hub.convert(str(tmp_path / "birds"), "", tmp_path / "hub" / "org--birds")
    for path in (tmp_path / "birds").rglob("*.png"):
        path.unlink()
    source = hub.source("org/birds", tmp_path)
    assert source.classes == ("duck", "owl")
    assert [image[0, 0].tolist() for image in source.parts["train"].images] == [[0, 0, 255], [255, 0, 0]]


def test_several_configs_are_an_error_that_lists_them_and_one_can_be_named(tmp_path):
    repository = tmp_path / "hub" / "org--birds"
    for config, labels in (("large", [0, 1, 0]), ("small", [1, 0])):
        _repository(repository / config, {"train": labels})
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/data/*.parquet\n" for name in ("large", "small"))
    (repository / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(ValueError, match=r"large.*small.*choose one by hub:ORG/NAME/CONFIG"):
        hub.source("org/birds", tmp_path)
    repository.rename(repository.with_name("org--birds--small"))
    assert hub.source("org/birds/small", tmp_path).parts["train"].labels.tolist() == [1, 0]


def test_a_dataset_that_would_run_its_own_code_is_refused(tmp_path):
    folder = tmp_path / "hub" / "org--birds"
    folder.mkdir(parents=True)
    (folder / "org--birds.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="cannot be read by the datasets library: Dataset scripts are no longer"):
        hub.source("org/birds", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_damaged_file_is_an_error_and_leaves_nothing_half_written(tmp_path):
    repository = _repository(tmp_path / "hub" / "org--birds", {"train": [0, 1]})
    path = repository / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises((ValueError, OSError), match="org--birds"):
        hub.source("org/birds", tmp_path)
    assert [path.name for path in (tmp_path / "hub").iterdir() if not path.name.startswith(".")] == ["org--birds"]


def test_without_data_and_network_one_error_within_seconds_names_every_way(tmp_path):
    begin = time.monotonic()
    with pytest.raises(FileNotFoundError) as error:
        hub.source("org/birds", tmp_path)
    assert time.monotonic() - begin < 3
    expected = [
        f"hub:org/birds is not in {tmp_path}",
        "no connection to http://127.0.0.1:9",
        "fetched from the Hub (org/birds)",
        "hf download org/birds --repo-type=dataset",
        str(tmp_path / "hub" / "org--birds"),
        "HF_HUB_OFFLINE=1",
    ]
    assert [text for text in expected if text not in str(error.value)] == []
    assert "/cifar-10" not in str(error.value)


def test_offline_mode_asks_nobody_and_gives_the_same_error(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"datasets/org/birds: .*(?s:.)*hf download org/birds"):
        hub.source("org/birds", tmp_path)


def test_a_server_that_answers_anything_counts_as_reached():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert hub.unreachable(f"http://127.0.0.1:{server.server_port}") == ""
        server.shutdown()
        thread.join()
    assert "refused" in hub.unreachable("http://127.0.0.1:9")


@pytest.mark.parametrize("num_classes", [10, 100])
def test_cifar_is_read_from_the_hubs_copy_with_the_official_class_names(num_classes, tmp_path):
    names = [f"class_{i}" for i in range(num_classes)]
    if num_classes == 100:
        names[26] = "cra"  # so in the Hub's copy; "crab" in the official archive
    _repository(
        tmp_path / "hub" / f"uoft-cs--cifar{num_classes}",
        {"train": [0, 1, 5], "test": [2]},
        image="img",
        label={10: "label", 100: "fine_label"}[num_classes],
        names=names,
        size=32,
    )
    source = cifar.source(tmp_path, num_classes)
    assert source.parts["train"].labels.tolist() == [0, 1, 5]
    assert source.image_size == 32
    assert "Krizhevsky" in source.info.citation
    assert "cra" not in source.classes
    assert ("crab" in source.classes) == (num_classes == 100)


def test_it_loads_by_name(tmp_path):
    labels = [0, 1] * 10
    _repository(tmp_path / "hub" / "org--birds", {"train": labels, "test": [0, 1]})
    splits = load("hub:org/birds", tmp_path)
    assert splits.train.images.shape[1:] == (6, 6, 3)
    values = sorted(np.concatenate([splits.train.images, splits.val.images])[:, 0, 0, 0].tolist())
    assert values == [10 * i for i in range(20)]
