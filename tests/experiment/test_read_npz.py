"""experiment.read_npz and its callers: a damaged npz file is one line that names it once."""

import gc
import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest

import data
import experiment
from deferral import table

READERS = {
    "arrays": experiment.read_npz,
    "data set": lambda path: data.load(str(path)),
    "table": table.read,
}


COUNTS = {"train": 30, "test": 12}


def saved(save=np.savez) -> bytes:
    """The content of a data set's npz file."""
    rng, stream = np.random.default_rng(0), io.BytesIO()
    images = {f"x_{k}": rng.integers(0, 256, (n, 8, 8, 3), np.uint8) for k, n in COUNTS.items()}
    save(stream, **images, **{f"y_{k}": np.arange(n) % 3 for k, n in COUNTS.items()})
    return stream.getvalue()


def flip_bytes(content):
    """Damages an array; the list of contents at the end stays whole."""
    return content[:1000] + bytes(byte ^ 255 for byte in content[1000:1100]) + content[1100:]


def set_bytes(content, at, new):
    return content[:at] + bytes(new) + content[at + len(new) :]


def entry(content):
    """The position of the first array in the list of contents."""
    return content.index(b"PK\x01\x02")


def first_block(content):
    return 30 + sum(int.from_bytes(content[at : at + 2], "little") for at in (26, 28))


def huge(content):
    content = set_bytes(content, entry(content) + 20, 2 * (2**24).to_bytes(4, "little"))
    return set_bytes(content, content.index(b"(30, 8, 8, 3)"), b"(99")


def lone_array():
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def with_a_note(content):
    """The first array replaced by a member that is no array."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream) as file, zipfile.ZipFile(out := io.BytesIO(), "w") as changed:
        for name in file.namelist():
            changed.writestr(name.removesuffix(".npy"), b"not an array")
    return out.getvalue()


DAMAGE = {
    "empty": b"",
    "a page": b"<html>404</html>\n",
    "a pickle": pickle.dumps({}),
    "a lone array": lone_array(),
    "a beginning": b"PK",
    **{f"{kept:.1%} kept": saved()[: int(kept * len(saved()))] for kept in (0.01, 0.2, 0.7, 0.999)},
    "end missing": saved()[:-30],
    "bytes flipped": flip_bytes(saved()),
    "bytes flipped, compressed": flip_bytes(saved(np.savez_compressed)),
    "RuntimeError": set_bytes(saved(), entry(saved()) + 8, [saved()[entry(saved()) + 8] | 1]),
    "NotImplementedError": set_bytes(saved(), entry(saved()) + 10, [99]),  # compression
    "EOFError": huge(saved()),
    "zlib.error": set_bytes((small := saved(np.savez_compressed)), first_block(small), [0xFF]),
    "no list of contents": b"PK\x03\x04" + bytes(100),
    "no arrays": with_a_note(saved()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_npz(reader, damage, tmp_path):
    """Some are named by the error that numpy raises; RuntimeError: of a bit for encryption."""
    path = tmp_path / "damaged.npz"
    path.write_bytes(DAMAGE[damage])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="cannot be read: truncated, or not an npz") as error:
            READERS[reader](path)
        gc.collect()
    assert str(error.value).startswith(f"{path}: cannot be read")
    assert str(error.value).count(str(path)) == 1
    assert "\n" not in str(error.value)
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == []  # it is closed


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("numpy.load", MemoryError(), "it does not fit into memory"),
        ("pathlib.Path.open", PermissionError(13, "No access"), "No access"),
    ],
)
def test_an_npz_that_cannot_be_read(name, error, reason, tmp_path, monkeypatch):
    path = tmp_path / "whole.npz"
    path.write_bytes(saved())

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(name, fails)
    with pytest.raises(ValueError, match=f"^{path}: cannot be read: {reason}$"):
        experiment.read_npz(path)


def test_some_arrays_of_an_npz(tmp_path):
    """Those that are not asked for are not read, here one of Python objects."""
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.array([{}], dtype=object))
    assert experiment.read_npz(path, ("a", "z"))["a"].tolist() == [0, 1, 2]
    with pytest.raises(FileNotFoundError):
        experiment.read_npz(tmp_path / "none.npz")
