"""Other people's files: what trainers really write is read, all else is named."""

import argparse
import collections
import io
import pathlib
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.scheduler import CosineLRScheduler
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

from cvx.models import foreign_weights


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3)


def averaged(net):
    """Return a network's running average, all of whose weights differ from its own."""
    ema = ModelEmaV3(net)
    for value in ema.module.state_dict().values():
        value.add_(1)
    return ema


def same(state, net):
    return state.keys() == net.state_dict().keys() and all(
        torch.equal(state[key], value) for key, value in net.state_dict().items()
    )


def written(folder, content, **options):
    torch.save(content, folder / "a.pth", **options)
    return folder / "a.pth"


# what trainers write


def test_a_checkpoint_of_timms_own_saver_is_read_and_offers_its_average(tmp_path, net):
    args = argparse.Namespace(model="test_resnet", output=tmp_path, lr=np.float64(0.1), dtype=np.float32)
    optimizer, ema = torch.optim.SGD(net.parameters(), 0.1), averaged(net)
    saver = CheckpointSaver(net, optimizer, args, ema, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path))
    saver.save_checkpoint(3, metric=np.float64(0.5))
    found = foreign_weights.read(tmp_path / "last.pth.tar")
    assert found.key == "state_dict" and found.averaged == ("state_dict_ema",) and same(found.state, net)
    other = foreign_weights.read(tmp_path / "last.pth.tar", "state_dict_ema")
    assert other.key == "state_dict_ema" and other.averaged == () and same(other.state, ema.module)


def test_a_checkpoint_of_deits_main_is_read(tmp_path, net):
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    content = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": CosineLRScheduler(optimizer, 10).state_dict(),
        "epoch": 3,
        "model_ema": averaged(net).module.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "args": argparse.Namespace(output_dir=pathlib.PurePosixPath("out"), seed=np.int64(1)),
    }
    found = foreign_weights.read(written(tmp_path, content))
    assert found.key == "model" and found.averaged == ("model_ema",) and same(found.state, net)


@pytest.mark.parametrize(
    "key", ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "ema_model", "EMA", "swa_state_dict", "averaged"]
)
def test_averaged_weights_are_offered_whatever_they_are_called(tmp_path, net, key):
    path = written(tmp_path, {"model": net.state_dict(), key: averaged(net).module.state_dict(), "schema": {}})
    assert foreign_weights.read(path).averaged == (key,)
    assert same(foreign_weights.read(path, key).state, averaged(net).module)


@pytest.mark.parametrize(
    "wrappers",
    [
        [],
        ["state_dict"],
        ["model"],
        ["model_state_dict"],
        ["net"],
        ["module"],
        ["model", "state_dict"],
        ["state", "model"],
    ],
)
def test_wrappers_are_taken_off_and_others_are_chosen_by_key(tmp_path, net, wrappers):
    content = net.state_dict()
    for wrapper in reversed(wrappers):
        content = {wrapper: content, "epoch": 3}
    path = written(tmp_path, content)
    if "state" not in wrappers:
        assert same(foreign_weights.read(path).state, net)
    assert same(foreign_weights.read(path, ".".join(wrappers)).state, net)


def test_unknown_wrappers_name_the_keys_that_are_there_and_how_to_choose(tmp_path, net):
    content = {
        "teacher": net.state_dict(),
        "student": net.state_dict(),
        "optimizer": torch.optim.SGD(net.parameters(), 0.1).state_dict(),
        "epoch": 3,
    }
    with pytest.raises(ValueError) as caught:
        foreign_weights.read(written(tmp_path, content))
    said, num = str(caught.value), len(net.state_dict())
    assert f"teacher ({num} tensors), student ({num} tensors), optimizer (an optimizer's state), epoch (int)" in said
    assert said.endswith("Choose with --weights_key=teacher or --weights_key=student")
    with pytest.raises(ValueError, match=r"has no 'techer' for --weights_key; it holds teacher \(.*epoch \(int\)"):
        foreign_weights.read(tmp_path / "a.pth", "techer")
    with pytest.raises(ValueError, match="has no 'x' under teacher"):
        foreign_weights.read(tmp_path / "a.pth", "teacher.x")


def test_a_key_also_chooses_what_lies_under_a_prefix(tmp_path, net):
    both = {f"model.{key}": value for key, value in net.state_dict().items()}
    both |= {f"model_ema.{key}": value for key, value in averaged(net).module.state_dict().items()}
    path = written(tmp_path, {"state_dict": both})
    assert same(foreign_weights.read(path, "state_dict.model").state, net)
    assert same(foreign_weights.read(path, "state_dict.model_ema").state, averaged(net).module)
    save_file({key: value.contiguous() for key, value in both.items()}, tmp_path / "a.safetensors")
    assert same(foreign_weights.read(tmp_path / "a.safetensors", "model").state, net)


@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(a=1, b=argparse.Namespace(c=[2])),
        np.float64(0.5), np.float32(1), np.int64(3), np.bool_(True), np.str_("x"), np.datetime64("2020-01-01"),
        np.float32, np.uint8, np.dtype("f4"), np.dtype("O"), np.dtype([("a", "i4")]), np.arange(3), np.random.default_rng(0).random((2, 3)),
        pathlib.Path("a/b"), pathlib.PurePath("a"), pathlib.PurePosixPath("/a"), pathlib.PureWindowsPath("C:/a"),
        collections.OrderedDict(a=1), collections.Counter("aab"), {1, 2}, torch.float16, torch.Size([1]), torch.device("cuda:3"), 1 + 2j, b"x", bytearray(b"x"),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_values_beside_the_weights_do_not_stand_in_the_way(tmp_path, value, zipped):
    path = written(
        tmp_path, {"state_dict": {"w": torch.ones(2)}, "args": [value]}, _use_new_zipfile_serialization=zipped
    )
    assert foreign_weights.read(path).state["w"].tolist() == [1, 1]


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["WindowsPath", "PosixPath"])
def test_a_path_of_another_system_or_python_is_read(tmp_path, module, name):
    content = {"args": pathlib.PurePosixPath("a"), "model": {"w": torch.ones(2)}}
    path = written(tmp_path, content, _use_new_zipfile_serialization=False)
    here = f"c{pathlib.PurePosixPath.__module__}\nPurePosixPath\n".encode()
    assert here in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(here, f"c{module}\n{name}\n".encode()))
    assert foreign_weights.read(path).state["w"].tolist() == [1, 1]


def test_the_content_decides_and_not_the_suffix(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "weights.bin")
    torch.save({"w": torch.ones(2)}, tmp_path / "weights.safetensors")
    for name in ("weights.bin", "weights.safetensors"):
        assert foreign_weights.read(tmp_path / name).state["w"].tolist() == [1, 1]


# what is something else


def make_tar(path, net):
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())


def make_zip(path, net):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run/weights.pth", "x")


def make_npz(path, net):
    with path.open("wb") as stream:
        np.savez(stream, w=np.zeros(1))


def make_cut(path, net):
    torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def make_cut_legacy(path, net):
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1000])


def make_cut_safetensors(path, net):
    save_file(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def make_whole(path, net):
    torch.save(net, path)


def make_whole_legacy(path, net):
    torch.save(net, path, _use_new_zipfile_serialization=False)


def make_wrapped_whole(path, net):
    torch.save({"epoch": 3, "model": net}, path)


def make_optimizer(path, net):
    torch.save(torch.optim.AdamW(net.parameters()).state_dict(), path)


def make_only_optimizer(path, net):
    torch.save({"epoch": 3, "optimizer": torch.optim.AdamW(net.parameters()).state_dict()}, path)


def make_script(path, net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and found all the more in files of before
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def make_exported(path, net):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), str(path))


def text(content):
    return lambda path, net: path.write_bytes(content)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
ONNX = b"\x08\n\x12\x07pytorch\x1a\x0c2.14.1+cu130:\xcd\x0c\n\x9b\x05\n\x05input"  # as torch.onnx.export begins a file


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text(b""), "is empty.*get it again"),
        (text(b"\n\n<!DOCTYPE html><html><head><title>Sign in</title>"), r"is a web page.*download the file\s+itself"),
        (text(b"\xef\xbb\xbf<HTML>"), "is a web page"),
        (text(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "is a web page.*an error"),
        (text(LFS), "is a Git-LFS pointer.*`git lfs pull`"),
        (text(b"\x89HDF\r\n\x1a\n" + bytes(100)), "is an HDF5 file, as Keras writes it"),
        (text(ONNX), "is an ONNX model.*exported from"),
        (text(b"\x1f\x8b\x08\x00" + bytes(100)), "is compressed with gzip; unpack it"),
        (text(b"GGUF" + bytes(100)), "is a GGUF file"),
        (text(b"\x93NUMPY" + bytes(100)), "is one NumPy array"),
        (text(b'{"weight_map": {}}'), "holds no weights that cvx can read: it begins with"),
        (text(b"not weights"), "holds no weights that cvx can read: it begins with b'not weights'"),
        (text(b"PK\x03\x04"), "was cut short"),
        (text(b"PK\x05\x06" + bytes(18)), r"is a zip archive of other things \(\)"),
        (make_tar, r"is a tar archive; unpack it.*weights_only=False"),
        (make_zip, r"is a zip archive of other things \(run/weights.pth\); unpack it"),
        (make_npz, r"is a zip archive of other things \(w.npy\)"),
        (make_cut, "was cut short.*again"),
        (make_cut_legacy, "ends too early.*get it again"),
        (make_cut_safetensors, "no readable safetensors file.*get it again"),
        (make_whole, r"holds a whole pickled model \(of the class timm.models.resnet.ResNet\).*weights_only=False"),
        (make_whole_legacy, "holds a whole pickled model.*weights_only=False"),
        (make_wrapped_whole, "holds a whole pickled model"),
        (make_optimizer, "is an optimizer's state, not a model's weights; name the file"),
        (make_only_optimizer, r"what it holds: epoch \(int\), optimizer \(an optimizer's state\). None of it is"),
        (make_script, r"is a TorchScript archive.*torch.jit.load\(FILE\).state_dict\(\)"),
        (make_exported, r"is a model of torch.export.*torch.export.load\(FILE\).state_dict"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_is_something_else_is_named_with_what_to_do(tmp_path, net, make, said, suffix):
    path = tmp_path / f"a{suffix}"
    make(path, net)
    with pytest.raises(ValueError, match=said) as caught:
        foreign_weights.read(path)
    assert str(path) in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 700


def quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since 2.13
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def test_a_folder_is_told_with_the_files_in_it(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="is a folder; name the file in it that has the weights: model.safetensors"):
        foreign_weights.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(1)], "expected names and tensors, got list"),
        (torch.ones(1), r"got a tensor \[1\]"),
        ({}, "got 0 tensors"),
        (argparse.Namespace(), "got not read"),
        ({0: torch.ones(1)}, r"what it holds: 0 \(a tensor \[1\]\)"),
        ({"w": torch.ones(1), "lr": 0.1}, r"what it holds: lr \(float\), w \(a tensor \[1\]\)"),
        ({"w": torch.ones(2, 2).to_sparse()}, "w is a sparse tensor"),
        ({"w": torch.ones(2, device="meta")}, "w is a meta tensor"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "w is a complex tensor"),
        ({"w": quantized()}, "w is a quantized tensor"),
    ],
)
def test_what_is_no_state_dict_of_plain_tensors_is_named(tmp_path, content, said):
    with pytest.raises(ValueError, match=said):
        foreign_weights.read(written(tmp_path, content))


def test_a_file_that_holds_itself_is_refused(tmp_path):
    content = {"epoch": 1}
    content["model"] = content
    with pytest.raises(ValueError, match="holds no state dict"):
        foreign_weights.read(written(tmp_path, content))
