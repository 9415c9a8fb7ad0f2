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
from data.client_counts import LEAST
from data.partition import cut_test, default_out, main, parse_args, split
from data.partition_plot import draw
from tests.made import make_npz, one_line_error, quiet

STOCKS = {
    "equal": [60] * 10,
    "unequal": [118, 122, 119, 121, 117, 123, 122, 119, 121, 118],
    "a class absent": [80, 0, 75, 90, 100],
    "long tail": [900, 400, 180, 80, 36, 16],
}
KINDS = {
    "iid": {},
    "dir 0.5": {"kind": "dir", "alpha": 0.5},
    "dir 1": {"kind": "dir", "alpha": 1.0},
    "dir 100": {"kind": "dir", "alpha": 100.0},
}


def labels_of(stock, seed=0):
    labels = np.repeat(np.arange(len(stock)), stock)
    return np.random.default_rng(seed).permutation(labels)


def counts_of(labels, parts):
    return np.stack([np.bincount(labels[rows], minlength=labels.max() + 1) for rows in parts])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stock", STOCKS)
def test_equal_is_disjoint_complete_and_even(stock, kind):
    labels = labels_of(STOCKS[stock])
    for clients in (10, 17):
        rng = np.random.default_rng(3)
        parts = split(labels, clients, rng, sizes="equal", **KINDS[kind])
        assert len(parts) == clients
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
        assert all((np.diff(rows) > 0).all() for rows in parts)
        numbers = np.array([len(rows) for rows in parts])
        assert numbers.min() >= LEAST
        assert numbers.max() - numbers.min() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_seeded(kind):
    labels = labels_of(STOCKS["unequal"])

    def rows(seed):
        parts = split(labels, 12, np.random.default_rng(seed), sizes="equal", **KINDS[kind])
        return [part.tolist() for part in parts]

    assert rows(5) == rows(5)
    assert rows(5) != rows(6)


def test_images_of_a_class_are_drawn_at_random():
    """They are not the first ones of the source."""
    labels = np.repeat(np.arange(4), 100)
    for kind in KINDS.values():
        for rows in split(labels, 4, np.random.default_rng(0), sizes="equal", **kind):
            within = rows % 100
            if len(np.unique(labels[rows])) > 1:
                assert 30 < within.mean() < 70


def test_iid_is_uniform():
    """Counts are hypergeometric: of 40 clients x 5 classes, chi squared has 4 x 39 freedoms."""
    labels = labels_of([400] * 5)
    counts = counts_of(labels, split(labels, 40, np.random.default_rng(1), sizes="equal"))
    chi_squared = ((counts - 10) ** 2 / 10).sum()
    assert abs(chi_squared - 156) < 4 * np.sqrt(2 * 156)


@pytest.mark.parametrize(
    ("flags", "clients", "telling"),
    [
        (
            "equal -",
            201,
            "201 clients of 3 images or more each: there are 600 images, so give 1 to 200",
        ),
        ("equal -", 0, "give 1 to 200 clients"),
        ("balance -", 61, "would have 0 images, fewer than 3: give fewer clients, or equal"),
        ("balance pat 11", 20, "give at most the 10 classes there are"),
        ("balance pat 2", 4, "4 clients hold 8 of 10 classes: give 5 classes per client"),
        ("- pat 2", 7, "7 clients hold 8 of 10 classes: give 4 classes per client"),
        ("- dir 0.01", 100, "fewer than 3 images: give fewer clients, a larger --alpha, or equal"),
        ("balance dir 1e-10", 10, "alpha is 1e-10: give 1e-09"),
        ("- exdir 0.01 2", 30, "fewer clients, a larger --alpha, or more --classes_per_client"),
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
    """A function that partitions the toy into tmp_path/parts and returns that folder.

    Without pictures, which take longer than all else, unless asked for.
    """

    def make(*flags, words=("noniid", "equal", "dir"), clients=6, pictures=False):
        none = {"png": b"", "pdf": b""}
        monkeypatch.setattr(data.partition, "draw", draw if pictures else lambda *_: none)
        out = tmp_path / "parts"
        quiet(main, "--dataset", toy, "--clients", clients, *words, "--out", out, *flags)
        return out

    return make


WORDS = [
    f"{labels} {sizes} {kind}"
    for labels, kinds in (("iid", "-"), ("noniid", "dir pat exdir"))
    for kind in kinds.split()
    for sizes in ("balance", "-", "equal")
    if kind in ("-", "dir") or sizes != "equal"
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
        ".lock", "partition.json", "classes.png", "classes.pdf", *about["files"],
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
    if words[1] == "equal":
        assert {sum(row) for row in about["counts"]} == {20 if train_only else 30}


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
    out = made(pictures=True)
    first = {path.name: path.read_bytes() for path in out.glob("client-*")}
    picture = (out / "classes.pdf").read_bytes()
    assert picture.startswith(b"%PDF")
    about = json.loads((out / "partition.json").read_text())
    made("--overwrite", pictures=True)
    assert {path.name: path.read_bytes() for path in out.glob("client-*")} == first
    assert (out / "classes.pdf").read_bytes() == picture
    assert json.loads((out / "partition.json").read_text())["data"] == about["data"]
    made("--overwrite", "--seed", 1)
    assert {path.name: path.read_bytes() for path in out.glob("client-*")} != first


def test_a_partition_is_kept_or_replaced_as_a_whole(made, toy, refused, monkeypatch):
    out = made()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = ["--dataset", toy, "--clients", 4, "iid", "equal", "-", "--out", out]
    refused(main, *again, telling=f"{out}: a partition is here; --overwrite replaces it")
    refused(main, *again[:3], 61, *again[4:], "--overwrite", telling="61 clients of 3")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    write = data.partition.write_bytes

    def full(path, content):
        if path.name == "client-0002.npz":
            experiment.fail("full")
        write(path, content)

    monkeypatch.setattr(data.partition, "write_bytes", full)
    refused(main, *again, "--overwrite", telling="full")
    assert not (out / "partition.json").exists()
    monkeypatch.undo()
    refused(main, *again, telling=f"{out}: an unfinished partition is here")
    quiet(main, *again, "--overwrite")
    assert len(list(out.glob("client-*.npz"))) == 4
    assert json.loads((out / "partition.json").read_text())["clients"] == 4


def test_files_of_other_programs_stay(toy, tmp_path, refused):
    """Data sets that no partition there names are neither replaced nor removed."""
    flags = ["--dataset", toy, "--clients", 2, "iid", "equal", "-", "--out", tmp_path]
    for more in ([], ["--overwrite"]):
        file = tmp_path / "client-0001.npz"
        file.write_bytes(b"somebody's data")
        refused(main, *flags, *more, telling=f"{file}: is not of a partition here")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"somebody's data"]
        file.unlink()


def test_a_full_disk_leaves_no_half_file(toy, tmp_path, refused, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    flags = ["--dataset", toy, "--clients", 2, "iid", "equal", "-", "--out", tmp_path / "parts"]
    refused(main, *flags, telling="No space left on device")
    assert list((tmp_path / "parts").glob("[!.]*")) == []


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ("--clients 4 iid balance dir", "give iid with -"),
        ("--clients 4 noniid equal exdir", "exdir goes with balance or -, not with equal"),
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
        found = draw(counts, [f"class number {k}" for k in range(31)], "title")
    assert found["pdf"].startswith(b"%PDF")
    picture = np.asarray(Image.open(io.BytesIO(found["png"])).convert("L"))
    assert picture.shape[1] == 1400
    assert 600 < picture.shape[0] < 1800
    assert picture.std() > 20
