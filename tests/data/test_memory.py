"""What is free, and folders that are refused before they fill the memory."""

import numpy as np
import pytest
from PIL import Image

import data.sources
from data import load, memory
from data.pictures import decoded_bytes
from tests.made import one_line_error

MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n\nHugePages_Total: 0\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """4,000 KiB free on the machine, and a container without a limit; returns its folder."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    limit(tmp_path, "max")
    return tmp_path


def limit(folder, size):
    """A container that may use `size` bytes and uses 3,000, 500 of them for files."""
    (folder / "memory.max").write_text(f"{size}\n")
    (folder / "memory.current").write_text("3000\n")
    (folder / "memory.stat").write_text("anon 2500\ninactive_file 500\n")


def test_the_machine_or_the_container_whichever_has_less(machine):
    assert memory.free_on_host() == 4000 * 1024
    limit(machine, 10_000)
    assert memory.free_on_host() == 10_000 - 3000 + 500
    limit(machine, 10**9)
    assert memory.free_on_host() == 4000 * 1024
    (machine / "memory.max").unlink()
    assert memory.free_on_host() == 4000 * 1024


def test_another_system_is_asked_for_its_pages(machine, monkeypatch):
    (machine / "meminfo").unlink()
    pages = {"SC_AVPHYS_PAGES": 7, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", pages.__getitem__)
    assert memory.free_on_host() == 7 * 4096

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert memory.free_on_host() is None
    assert memory.fits_host(10**18)


def test_every_process_of_torchrun_needs_as_much(machine, monkeypatch):
    assert memory.fits_host(4000 * 1024)
    assert not memory.fits_host(4000 * 1024 + 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory.fits_host(1000 * 1024)
    assert not memory.fits_host(1001 * 1024)


@pytest.fixture
def pets(tmp_path):
    """2 classes of 4 and 2 pictures, 20 x 30 px: 12 * 1,800 bytes decoded."""
    for split, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.full((20, 30, 3), i, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{i}.png")
    return tmp_path / "pets"


def test_decoded_bytes(pets, monkeypatch):
    files = sorted(map(str, (pets / "train").rglob("*.png")))
    assert decoded_bytes(files) == 8 * 1800
    monkeypatch.setattr("data.pictures.LOOKED_AT", 3)
    assert decoded_bytes(files) == 8 * 1800
    Image.new("L", (100, 10)).save(files[0])  # grey becomes RGB; of 3 that are looked at
    assert decoded_bytes(files) == round(8 * (3000 + 2 * 1800) / 3)
    (pets / "train" / "cat" / "0.png").write_bytes(b"no picture")
    assert decoded_bytes(files) == 8 * 1800
    assert decoded_bytes([]) == 0


def test_a_folder_that_does_not_fit_is_refused_before_it_is_read(machine, pets, monkeypatch):
    limit(machine, 2500 + 2 * 12 * 1800)
    assert len(load(str(pets), val_size=2).train.labels) == 6
    limit(machine, 2500 + 2 * 12 * 1800 - 1)
    monkeypatch.delattr(data.sources, "_decode")
    with one_line_error("--stream", start=f"{pets} takes about 0.0 GB"):
        load(str(pets), val_size=2)
