"""CIFAR-10 from its archive and its folder."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ntklens.data import load_dataset
from ntklens.errors import InputError

CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_archive(path: Path, *, leave_out: str = "", cut: int = 0, each: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (6, each, 3073)).astype(np.uint8)
    rows[:, :, 0] = rng.integers(0, 10, (6, each))
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    contents = {name: r.tobytes()[: len(r.tobytes()) - cut] for name, r in zip(names, rows, strict=True)}
    contents["batches.meta.txt"] = "\n".join(CIFAR).encode() + b"\n\n"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            if name != leave_out:
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return rows


def test_cifar10_from_the_archive_and_from_its_folder(tmp_path):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    rows = cifar_archive(archive)
    data = load_dataset("cifar10", data_dir=tmp_path)
    assert data.train.x.shape == (20, 3, 32, 32)
    assert data.classes[3] == "cat"
    assert np.array_equal((data.test.x * 255).round().numpy().reshape(4, -1), rows[5, :, 1:])
    assert data.test.y.tolist() == rows[5, :, 0].tolist()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert load_dataset("cifar10", data_dir=tmp_path / "unpacked").fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("damage", "message"),
    [({"leave_out": "data_batch_3.bin"}, "has no data_batch_3.bin"), ({"cut": 7}, "whole records of 3073 bytes")],
)
def test_damaged_cifar10(damage, message, tmp_path):
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", **damage)
    with pytest.raises(InputError, match=message):
        load_dataset("cifar10", data_dir=tmp_path)


def test_the_pickled_cifar10_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match="not read because unpickling runs code"):
        load_dataset("cifar10", data_dir=tmp_path)
