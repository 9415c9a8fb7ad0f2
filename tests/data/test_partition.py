"""Partitions: complete and disjoint, with the promised distributions; each file is a data set."""

import io
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import data.partition
import experiment
from data import benchmark_counts, load
from data.benchmark_counts import LEAST
from data.partition import cut_test, default_out, main, parse_args, picture, split
from tests.made import make_npz, one_line_error, quiet

STOCKS = {
    "equal": [60] * 10,
    "unequal": [118, 122, 119, 121, 117, 123, 122, 119, 121, 118],
    "a class absent": [80, 0, 75, 90, 100],
    "long tail": [900, 400, 180, 80, 36, 16],
}
KINDS = {
    "iid": {},
    "dir": {"kind": "dir", "alpha": 1.0},
    "pat": {"kind": "pat", "per_client": 4},
    "exdir": {"kind": "exdir", "alpha": 100.0, "per_client": 4},
}


def labels_of(stock, seed=0):
    labels = np.repeat(np.arange(len(stock)), stock)
    return np.random.default_rng(seed).permutation(labels)


def counts_of(labels, parts):
    return np.stack([np.bincount(labels[rows], minlength=labels.max() + 1) for rows in parts])


@pytest.mark.parametrize("sizes", ["balance", "-"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stock", STOCKS)
def test_disjoint_complete_and_seeded(stock, kind, sizes):
    labels = labels_of(STOCKS[stock])

    def parts_of(seed):
        rng = np.random.default_rng(seed)
        return split(labels, 7, rng, sizes=sizes, **KINDS[kind])

    parts = parts_of(3)
    assert len(parts) == 7
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert all((np.diff(rows) > 0).all() for rows in parts)
    assert min(len(rows) for rows in parts) >= LEAST
    for seed, same in ((3, True), (4, False)):
        again = parts_of(seed)
        assert all(map(np.array_equal, parts, again)) == same


def test_images_of_a_class_are_drawn_at_random():
    """They are not the first ones of the source."""
    labels = np.repeat(np.arange(4), 100)
    for kind in KINDS.values():
        for rows in split(labels, 4, np.random.default_rng(0), sizes="balance", **kind):
            within = rows % 100
            if len(np.unique(labels[rows])) > 1:
                assert 30 < within.mean() < 70


@pytest.mark.parametrize(
    ("flags", "clients", "telling"),
    [
        (
            "balance -",
            201,
            "201 clients of 3 images or more each: there are 600 images, so give 1 to 200",
        ),
        ("balance -", 0, "give 1 to 200 clients"),
        ("balance -", 61, "would have 0 images, fewer than 3: give fewer clients"),
        ("balance pat 11", 20, "give at most the 10 classes there are"),
        ("balance pat 2", 4, "4 clients hold 8 of 10 classes: give 5 classes per client"),
        ("- pat 2", 7, "7 clients hold 8 of 10 classes: give 4 classes per client"),
        ("- dir 0.01", 100, "fewer than 3 images: give fewer clients or a larger --alpha"),
        ("balance dir 1e-10", 10, "alpha is 1e-10: give 1e-09"),
        ("- exdir 0.01 2", 30, "fewer clients or a larger --alpha, or more --classes_per_client"),
        ("- exdir 1 11", 20, "give at most the 10 classes there are"),
        ("- exdir 1 2", 4, "4 clients hold at most 8 of 10 classes: give 3 classes per client"),
    ],
)
def test_impossible_partitions(flags, clients, telling, monkeypatch):
    monkeypatch.setattr(benchmark_counts, "DRAWS", 50)
    labels = labels_of(STOCKS["equal"])
    sizes, kind, *numbers = flags.split()
    names = {"dir": ["alpha"], "pat": ["per_client"], "exdir": ["alpha", "per_client"]}
    values = dict(zip(names.get(kind, []), map(float, numbers), strict=True))
    if "per_client" in values:
        values["per_client"] = int(values["per_client"])
    with one_line_error(telling):
        split(labels, clients, np.random.default_rng(0), sizes=sizes, kind=kind, **values)


@pytest.mark.parametrize(
    ("count", "share", "test"),
    [(50, 0.2, 10), (3, 0.2, 1), (3, 0.9, 1), (10, 0.99, 8), (7, 0.5, 4), (1000, 0.001, 1)]
    + [(50, 0.25, 13), (100, 0.07, 7)],
)
def test_test_part(count, share, test):
    rows = np.arange(count) * 3
    parts = [cut_test(rows, share, np.random.default_rng(seed)) for seed in range(2)]
    for train, held in parts:
        assert len(held) == test
        assert np.array_equal(np.sort(np.concatenate([train, held])), rows)
        assert (np.diff(train) > 0).all()
        assert (np.diff(held) > 0).all()
    if count == 50:
        assert parts[0][1].tolist() != parts[1][1].tolist()


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """120 train and 60 test images of 4 classes."""
    return make_npz(tmp_path_factory.mktemp("partition") / "toy.npz", size=8)


@pytest.fixture
def made(toy, tmp_path, monkeypatch):
    """A function that partitions the toy into a folder of tmp_path and returns that folder.

    Without the picture, which takes longer than all else.
    """

    def make(*flags, words=("noniid", "balance", "dir"), clients=6, name="parts"):
        monkeypatch.setattr(data.partition, "picture", lambda *_: b"")
        out = tmp_path / name
        quiet(main, "--dataset", toy, "--clients", clients, *words, "--out", out, *flags)
        return out

    return make


WORDS = [
    f"{labels} {sizes} {kind}"
    for labels, kinds in (("iid", "-"), ("noniid", "dir pat exdir"))
    for kind in kinds.split()
    for sizes in ("balance", "-")
]


@pytest.mark.parametrize("train_only", [False, True], ids=["merged", "train only"])
@pytest.mark.parametrize("words", WORDS)
def test_each_file_is_a_data_set_of_the_sources_images(words, train_only, toy, made):
    words = words.split()
    flags = ["--alpha", 1] if "dir" in words[2] else []
    out = made(*flags, *["--train_only"] * train_only, words=words)
    source = np.load(toy)
    about = json.loads((out / "partition.json").read_text())
    assert about["files"] == [f"client-{client:04}.npz" for client in range(6)]
    assert {path.name for path in out.iterdir()} == {
        ".lock", "partition.json", "classes.png", *about["files"],
    }  # fmt: skip
    rows = []
    for client, file in enumerate(about["files"]):
        arrays = np.load(out / file)
        for part in ("train", "test"):
            index, split_of = arrays[f"index_{part}"], arrays[f"split_{part}"]
            for number, name in enumerate(("train", "test")):
                of = split_of == number
                assert np.array_equal(arrays[f"x_{part}"][of], source[f"x_{name}"][index[of]])
                assert np.array_equal(arrays[f"y_{part}"][of], source[f"y_{name}"][index[of]])
            rows += zip(split_of.tolist(), index.tolist(), strict=True)
        assert about["train_images"][client] == len(arrays["y_train"])
        assert about["test_images"][client] == len(arrays["y_test"])
        both = np.concatenate([arrays["y_train"], arrays["y_test"]])
        assert len(arrays["y_test"]) == min(-(-len(both) // 4), len(both) - 2)  # a quarter
        assert about["counts"][client] == np.bincount(both, minlength=4).tolist()

        dataset = load(str(out / file), val_size=1)
        assert dataset.name == f"client-{client:04}"
        assert dataset.classes == ("0", "1", "2", "3")
        assert len(dataset.train.labels) + 1 == len(arrays["y_train"])
        pixels = dataset.test.images.permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels, arrays["x_test"])
    everything = [(0, row) for row in range(120)] + [(1, row) for row in range(60)]
    assert sorted(rows) == everything[: 120 if train_only else 180]
    assert about["words"] == words
    assert about["clients"] == 6
    assert about["seed"] == 0


def test_index_is_that_of_the_source(made, monkeypatch):
    """Which of a filtered set counts the images that were there before."""
    read = data.partition.source_of

    def filtered(*args):
        source = read(*args)
        return source._replace(train=replace(source.train, index=source.train.index * 10 + 3))

    monkeypatch.setattr(data.partition, "source_of", filtered)
    out = made("--train_only")
    found = [
        np.load(path)[key] for path in out.glob("*.npz") for key in ("index_train", "index_test")
    ]
    assert sorted(np.concatenate(found)) == list(range(3, 1200, 10))


def test_the_same_seed_gives_the_same_files(made):
    def files(folder):
        return {path.name: path.read_bytes() for path in folder.glob("client-*")}

    first = made()
    about = json.loads((first / "partition.json").read_text())
    again = made(name="again")
    assert files(again) == files(first)
    assert json.loads((again / "partition.json").read_text())["data"] == about["data"]
    assert files(made("--seed", 1, name="other")) != files(first)


def test_a_folder_with_files_stays_as_it_is(toy, tmp_path, refused, monkeypatch):
    """A partition is complete where it has its partition.json, which is written last."""
    out = tmp_path / "parts"
    flags = ["--dataset", toy, "--clients", 4, "iid", "balance", "-", "--out", out]
    write = data.partition.write_bytes

    def full(path, content):
        if path.name == "client-0002.npz":
            experiment.fail("full")
        write(path, content)

    monkeypatch.setattr(data.partition, "write_bytes", full)
    refused(main, *flags, telling="full")
    monkeypatch.undo()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "partition.json" not in before
    refused(main, *flags, telling=f"{out}: files are here; remove it, or use another --out")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_leaves_no_half_file(toy, tmp_path, refused, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    flags = ["--dataset", toy, "--clients", 2, "iid", "balance", "-", "--out", tmp_path / "parts"]
    refused(main, *flags, telling="No space left on device")
    assert list((tmp_path / "parts").glob("[!.]*")) == []


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ("--clients 4 iid balance dir", "give iid with -"),
        ("--clients 4 noniid balance -", "noniid with dir, pat or exdir"),
        ("--clients 0 noniid balance dir", "at least 1"),
        ("--clients 4 noniid balance dir --alpha 0", "above 0"),
        ("--clients 4 noniid balance dir --alpha nan", "must be finite"),
        (
            "--clients 4 noniid balance pat --alpha 1",
            "--alpha goes with dir or exdir, not with pat",
        ),
        ("--clients 4 noniid balance dir --classes_per_client 2", "goes with pat or exdir"),
        ("--clients 4 iid balance - --test_share 1", "below 1"),
        ("--clients 500 iid balance -", "give 1 to 60 clients"),
        ("--clients 4 iid balance - --dataset nothing", "unknown data set 'nothing'"),
    ],
)
def test_bad_input(words, telling, toy, tmp_path, refused):
    out = tmp_path / "parts"
    refused(main, "--dataset", toy, "--out", out, *words.split(), telling=telling)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("noniid balance dir", "cifar100-8-noniid-balance-dir-0.1-seed-0"),
        ("noniid - pat --seed 3", "cifar100-8-noniid-unbalanced-pat-seed-3"),
        (
            "noniid - exdir --train_only --classes_per_client 5",
            "cifar100-8-noniid-unbalanced-exdir-0.1-5-seed-0-train_only",
        ),
        ("iid - -", "cifar100-8-iid-unbalanced-seed-0"),
        # Alike in six digits.
        ("noniid - dir --alpha 0.3000001", "cifar100-8-noniid-unbalanced-dir-0.3000001-seed-0"),
    ],
)
def test_folder_by_default(words, expected):
    args = parse_args(["--dataset", "cifar100", "--clients", "8", *words.split()])
    assert default_out(args).as_posix() == f"results/partitions/{expected}"


def test_the_picture():
    counts = np.random.default_rng(0).integers(0, 50, (21, 31))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content = picture(counts, [f"class number {k}" for k in range(31)], "title")
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    assert pixels.shape[1] == 1400
    assert 600 < pixels.shape[0] < 1800
    assert pixels.std() > 20
