"""Damaged and malicious files are named and cost nothing else: no code runs, nothing outside is touched."""

import contextlib
import dataclasses
import gzip
import io
import json
import pickle
import resource
import shutil
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from damage import DAMAGES, EXAMPLES, JSON, SECRET, gone, mutations, parent_is_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_store import SWEEP, files_of, make_kept_store, state_of, text_of
from small_store import NASTY, add_model, make_splits
from test_cifar import _official as official_cifar
from test_cifar import _python2
from test_tiny_imagenet import _official as official_tiny

from cvx import checkpoint, config, records
from cvx.checkpoint import DamagedError
from cvx.data import cifar, fashion_mnist, tiny_imagenet
from cvx.files import write_json
from cvx.store import Store
from cvx.sweeps.file import read as read_sweep
from cvx.upkeep import examine

fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_kept_store(tmp_path_factory.mktemp("kept") / "store").root


@pytest.fixture(scope="module")
def kept_files(whole):
    return files_of(whole)


# every file, every damage


def is_named(found, path):
    """Say whether a problem stands at the file or at a folder above it that is one thing: a version, a run's part."""
    return any(one.level == "problem" and (path == one.where or one.where in path.parents) for one in found)


def assert_the_rest_works(root, damaged):
    """Read all that does not need the damaged file."""
    store = Store(root)
    for entry in store.models():
        if not damaged.is_relative_to(entry.folder):
            entry.load()
    if not damaged.is_relative_to(root / "samples"):
        assert len(store.samples("tiles").split) == 40
    for run in records.runs(root):
        if not damaged.is_relative_to(run.folder):
            assert run.summary and run.rows()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_in_a_store_whose_every_file_is_damaged_each_is_named(whole, kept_files, tmp_path, damage):
    root, random = shutil.copytree(whole, tmp_path / "store"), np.random.default_rng(0)
    for name in kept_files:
        damage(root / name, tmp_path, random)
    found = list(examine(root))
    assert [str(name) for name in kept_files if not is_named(found, root / name)] == []
    assert all(SECRET not in one.what for one in found), "what a link leads to is not repeated"


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_damaged_file_is_named_in_turn_while_the_rest_works(whole, kept_files, tmp_path, damage):
    root, random, missed = shutil.copytree(whole, tmp_path / "store"), np.random.default_rng(0), []
    for name in kept_files:
        path = root / name
        damage(path, tmp_path, random)
        missed += [] if is_named(examine(root), path) else [str(name)]
        assert_the_rest_works(root, path)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copy2(whole / name, path)
    assert missed == []
    assert list(examine(root)) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", [gone, parent_is_file], ids=lambda damage: damage.__name__)
def test_every_lost_file_that_something_needs_is_named(whole, kept_files, tmp_path, damage):
    # a frame, a result, a picture, a sweep's ledger may be gone: a store without them is whole
    needed = [name for name in kept_files if name.parts[0] in ("models", "samples") or name.name == "config.json"]
    for name in needed:
        root = shutil.copytree(whole, tmp_path / "store")
        damage(root / name, tmp_path, None)
        assert any(one.where == root / name or one.where in (root / name).parents for one in examine(root)), name
        assert_the_rest_works(root, root / name)
        shutil.rmtree(root)


# cards


@pytest.fixture(scope="module")
def version(whole):
    return whole / "models/tiles-vit_mini/v0"


@pytest.fixture
def copied(version, tmp_path):
    return shutil.copytree(version, tmp_path / "v0")


def with_card(folder, **changes):
    write_json(folder / "card.json", {**text_of(folder / "card.json"), **changes})


def with_build(folder, **changes):
    with_card(folder, build={**text_of(folder / "card.json")["build"], **changes})


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vit_giant_patch14_224",
        "hf_hub:somebody/model",
        "local-dir:/etc",
        "../../etc/passwd",
        "",
        "x" * 10_000,
    ],
)
def test_a_card_that_names_another_model_is_refused_before_memory_is_spent_on_it(copied, name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with_build(copied, name=name)
    with pytest.raises(DamagedError, match="does not fit the model its card names"):
        checkpoint.load(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kB; that model alone has 4.6 GB"


def test_a_card_with_a_hundred_thousand_classes_is_refused_before_memory_is_spent_on_it(copied):
    with_card(copied, classes=[str(k) for k in range(100_000)])
    with_build(copied, num_classes=100_000)
    with pytest.raises(DamagedError, match="of another shape, first"):
        checkpoint.load(copied)


@pytest.mark.parametrize(
    "build",
    [
        {"code": "import os"},
        {"pretrained": "yes"},
        {"patch_size": 10**12},
        {"num_classes": 4.0, "x": 1},
        {"drop_path": "nan"},
    ],
)
def test_build_arguments_that_nobody_wrote_are_refused_or_mean_nothing(copied, build):
    with_build(copied, **build)
    if build == {"pretrained": "yes"}:
        checkpoint.load(copied)  # weights come from the folder alone
        return
    with pytest.raises(DamagedError):
        checkpoint.load(copied)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 4096}, "image_size is 4096, but build says 16"),
        ({"in_chans": 1, "mean": [0.5], "std": [0.5]}, "in_chans is 1, but build says 3"),
        ({"metrics": {"val/acc1": "<script>"}}, "metrics must be numbers, got str"),
        ({"metrics": {"val/acc1": {}}}, "metrics must be numbers, got dict"),
        ({"std": [0, 1, 1]}, "std positive"),
        ({"mean": ["a", 1, 1]}, "finite"),
        ({"classes": ["a", 2, "c", "d"]}, "class names"),
        ({"classes": ["one"]}, "2 to 100,000"),
        ({"classes": "abcd"}, "classes must be tuple"),
    ],
)
def test_a_card_whose_fields_contradict_each_other_is_refused(copied, changes, said):
    with_card(copied, **changes)
    with pytest.raises(DamagedError, match=f"{said}|Type-check error"):  # in tests annotations are checked even before
        checkpoint.read_card(copied)


def test_a_model_whose_accuracy_was_no_number_does_not_stand_in_the_way_of_the_next(whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "store")
    for version in (0, 1):
        with_card(root / f"models/tiles-vit_mini/v{version}", metrics={"val/acc1": None})
    assert "best" in add_model(Store(root), make_splits("tiles", 40, 16, 3, True), "vit_mini", seed=5).aliases


def test_class_names_that_are_code_come_back_as_they_are_and_do_nothing(copied):
    names = [NASTY, "<script>alert(1)</script>", "../../x", "{0.__class__}"]
    with_card(copied, classes=names)
    assert list(checkpoint.load(copied)[1].classes) == names


def test_a_card_of_a_newer_format_says_so(copied):
    write_json(copied / "card.json", {**text_of(copied / "card.json"), "format": 2})
    with pytest.raises(DamagedError, match=r"format 2.*install a newer cvx"):
        checkpoint.read_card(copied)


@fuzz
@given(data=st.data())
def test_a_card_with_any_field_changed_is_read_or_refused_and_nothing_else(version, tmp_path, data):
    content = text_of(version / "card.json")
    where = content if data.draw(st.booleans()) else content["build"]
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JSON)
    folder = tmp_path / "fuzzed"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(version / "model.safetensors", folder / "model.safetensors")
    (folder / "card.json").write_text(json.dumps(content))
    try:
        _, card = checkpoint.load(folder)
    except DamagedError:
        return
    assert len(card.classes) == 4


@fuzz
@given(data=st.data())
def test_a_card_of_any_bytes_is_read_or_refused(version, tmp_path, data):
    folder = tmp_path / "fuzzed"
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_bytes(data.draw(mutations((version / "card.json").read_bytes())))
    try:
        checkpoint.read_card(folder)
    except DamagedError as error:
        assert str(folder) in str(error)


@fuzz
@given(data=st.data())
def test_weights_of_any_bytes_are_refused_even_if_the_card_has_their_digest(version, tmp_path, data):
    folder = tmp_path / "fuzzed"
    folder.mkdir(exist_ok=True)
    content = (version / "model.safetensors").read_bytes()
    head = 8 + struct.unpack("<Q", content[:8])[0]
    (folder / "model.safetensors").write_bytes(data.draw(mutations(content[:head])) + content[head:])
    card = text_of(version / "card.json")
    write_json(folder / "card.json", {**card, "sha256": checkpoint.digest(folder / "model.safetensors")})
    try:
        checkpoint.load(folder)  # a change of a number's bytes alone gives other weights, which are weights
    except DamagedError as error:
        assert str(folder) in str(error)


def test_a_pickle_in_place_of_weights_is_not_executed(copied, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (copied / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with_card(copied, sha256=checkpoint.digest(copied / "model.safetensors"))
    with pytest.raises(DamagedError):
        checkpoint.load(copied)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_place_of_a_runs_frame_or_of_samples_is_not_executed(whole, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    root = shutil.copytree(whole, tmp_path / "store")
    frame = next(root.glob("runs/*/film/0001.npz"))
    np.savez(frame, attribution=np.array([Bomb()], dtype=object))
    np.save(root / "samples/tiles/v0/labels.npy", np.array([Bomb()] * 40, dtype=object), allow_pickle=True)
    assert {frame, root / "samples/tiles/v0"} <= {one.where for one in examine(root) if one.level == "problem"}
    with pytest.raises(ValueError, match="damaged"):
        Store(root).samples("tiles")
    assert not (tmp_path / "executed").exists()


# names


@pytest.mark.parametrize(
    "reference",
    ["../outside", "tiles-vit_mini/../../outside", "/etc", "..", ".", "models\\x", "tiles-vit_mini:../v0", "a\0b", "~root",
     "tiles-vit_mini@../x", "tiles-vit_mini:v0/..", "x" * 5000, "tiles-vit_mini:v" + "9" * 5000],
)  # fmt: skip
def test_a_reference_that_would_lead_outside_finds_nothing(whole, tmp_path, reference):
    root = shutil.copytree(whole, tmp_path / "store")
    shutil.copytree(root / "models/tiles-vit_mini", tmp_path / "outside")
    before = state_of(tmp_path)
    with pytest.raises(ValueError):
        Store(root).resolve(reference)
    assert state_of(tmp_path) == before


def test_a_model_from_elsewhere_cannot_choose_a_place_outside(whole, copied, tmp_path):
    root = shutil.copytree(whole, tmp_path / "store")
    before = state_of(tmp_path)
    for name in ("../outside", "/tmp/x", "a/b", ".hidden", "..", ""):
        with_card(copied, name=name)
        changed = state_of(copied)
        with pytest.raises(ValueError):
            Store(root).adopt_model(copied, "somebody/project/model:v0")
        assert state_of(copied) == changed
    assert {key: value for key, value in state_of(tmp_path).items() if not key.startswith("v0")} == {
        key: value for key, value in before.items() if not key.startswith("v0")
    }


def test_samples_from_elsewhere_bring_no_other_files_with_them(whole, tmp_path):
    source = shutil.copytree(whole / "samples/tiles/v0", tmp_path / "given")
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    (source / "extra.txt").symlink_to(secret)
    write_json(source / "card.json", {**text_of(source / "card.json"), "fingerprint": "another"})
    found = Store(tmp_path / "store").adopt_samples(source)
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "card.json",
        "ids.npy",
        "images.npy",
        "labels.npy",
        "masks.npy",
    ]


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
        with pytest.raises(ValueError, match="aliases are not read"):
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


# datasets


IDX = struct.pack(">HBB3I", 0, 8, 3, 5, 4, 4) + bytes(range(80))


@fuzz
@given(data=st.data())
def test_an_idx_file_of_any_bytes_gives_bytes_of_the_shape_or_is_refused_by_name(tmp_path, data):
    packed = data.draw(st.booleans())
    file = tmp_path / "fuzzed.gz"
    content = data.draw(mutations(gzip.compress(IDX) if packed else IDX))
    file.write_bytes(content)
    try:
        assert fashion_mnist.read_idx(file, (4, 4)).shape[1:] == (4, 4)
    except ValueError as error:
        assert "fuzzed.gz" in str(error)


def test_a_gzip_bomb_is_refused_after_what_the_largest_file_would_have(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**20)) * 1000)
    with taking_at_most(2**28), pytest.raises(ValueError, match=r"bomb\.gz unpacks to more than"):
        fashion_mnist.read_idx(tmp_path / "bomb.gz", (28, 28))


@contextlib.contextmanager
def taking_at_most(num_bytes):
    """Hold what Python allocates within the block against a bound."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def cifar_members():
    return {name: _python2(content) for name, content in official_cifar(10).items()}


def cifar_archive(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@fuzz
@given(data=st.data())
def test_a_cifar_archive_with_any_member_changed_is_read_or_refused_by_name(tmp_path, cifar_members, data):
    name = data.draw(st.sampled_from(sorted(cifar_members)))
    content = cifar_members[name]
    head = data.draw(mutations(content[:200]))
    tail = data.draw(mutations(content[-200:]))
    cifar_archive(tmp_path / "cifar-10-python.tar.gz", {**cifar_members, name: head + content[200:-200] + tail})
    try:
        source = cifar.source(tmp_path, 10)
    except ValueError as error:
        assert str(tmp_path) in str(error) or name in str(error)
        return
    assert len(source.classes) == 10


@fuzz
@given(data=st.data())
def test_a_damaged_cifar_archive_is_read_or_refused_by_name(tmp_path, cifar_members, data):
    file = tmp_path / "cifar-10-python.tar.gz"
    cifar_archive(file, cifar_members)
    file.write_bytes(data.draw(mutations(file.read_bytes())))
    try:
        cifar.source(tmp_path, 10)
    except ValueError as error:
        assert "cifar-10" in str(error)


@pytest.fixture(scope="module")
def tiny_files():
    return official_tiny()


@fuzz
@given(data=st.data())
def test_tiny_imagenet_with_any_text_changed_is_read_or_refused_by_name(tmp_path, tiny_files, data):
    name = data.draw(st.sampled_from(["wnids.txt", "words.txt", "val/val_annotations.txt"]))
    files = {**tiny_files, name: data.draw(mutations(tiny_files[name]))}
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{path}", content)
    try:
        source = tiny_imagenet.source(tmp_path, url="http://127.0.0.1:9/none.zip")
    except ValueError as error:
        assert "tiny-imagenet" in str(error)
        return
    assert set(source.parts["test"].labels) <= set(range(len(source.classes)))


def test_a_zip_bomb_in_place_of_annotations_is_refused_unread(tmp_path, tiny_files):
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in tiny_files.items():
            archive.writestr(f"tiny-imagenet-200/{path}", bytes(2**27) if path.endswith("annotations.txt") else content)
    with taking_at_most(2**26), pytest.raises(ValueError, match="unpacks to 134,217,728 bytes"):
        tiny_imagenet.source(tmp_path, url="http://127.0.0.1:9/none.zip")


def test_annotations_that_lead_outside_are_refused(tmp_path, tiny_files):
    (tmp_path / "secret.JPEG").write_bytes(b"x")
    files = {**tiny_files, "val/val_annotations.txt": b"../../../secret.JPEG\tn02124075\t0\t0\t1\t1\n"}
    for path, content in files.items():
        file = tmp_path / "tiny-imagenet-200" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with pytest.raises(ValueError, match="no such class or image"):
        tiny_imagenet.source(tmp_path, url="http://127.0.0.1:9/none.zip")


# records


@fuzz
@given(data=st.data())
def test_metrics_of_any_bytes_are_rows_or_refused_by_name(tmp_path, data):
    rows = b'{"step": 1, "epoch": 0.5, "time": 1.0}\n{"step": 2, "epoch": 1.0, "time": 2.0}\n'
    (tmp_path / "metrics.jsonl").write_bytes(data.draw(mutations(rows)))
    try:
        found = records.read_rows(tmp_path)
    except ValueError as error:
        assert "metrics.jsonl" in str(error)
        return
    assert all(isinstance(row, dict) for row in found)


def test_a_card_is_made_of_the_fields_that_are_fuzzed(version):
    assert {field.name for field in dataclasses.fields(checkpoint.Card)} <= set(text_of(version / "card.json"))
