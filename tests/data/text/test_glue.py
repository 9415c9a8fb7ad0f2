"""GLUE's files, row by row as they were written, and errors for bad ones."""

from dataclasses import replace

import pytest
import torch

from data.cuts import cut
from data.text.glue import TASKS, load_glue
from tests.made import one_line_error

# Header, and a row by (first text, second text, label); GLUE's own columns in its own order.
FILES = {
    "CoLA": ("", lambda a, b, y: f"gj04\t{y}\t\t{a}"),
    "SST-2": ("sentence\tlabel", lambda a, b, y: f"{a}\t{y}"),
    "MRPC": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", lambda a, b, y: f"{y}\t7\t8\t{a}\t{b}"),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        lambda a, b, y: f"1\t2\t3\t{a}\t{b}\t{y}",
    ),
    "MNLI": (
        "index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
        lambda a, b, y: f"0\tfiction\t{a}\t{b}\tneutral\t{y}",
    ),
    "QNLI": ("index\tquestion\tsentence\tlabel", lambda a, b, y: f"0\t{a}\t{b}\t{y}"),
    "RTE": ("index\tsentence1\tsentence2\tlabel", lambda a, b, y: f"0\t{a}\t{b}\t{y}"),
}
SINGLE = ("CoLA", "SST-2")
SPELT = {
    "MNLI": ("contradiction", "entailment", "neutral"),
    "QNLI": ("entailment", "not_entailment"),
    "RTE": ("entailment", "not_entailment"),
}


def write(root, task, train=20, dev=6, start="", newline="\n"):
    """A task's folder with texts that say which row they are; row k has label k modulo K."""
    folder = root / task
    folder.mkdir(parents=True, exist_ok=True)
    header, row = FILES[task]
    spelt = SPELT.get(task, ("0", "1"))
    names = {"train.tsv": train, "dev.tsv": dev}
    if task == "MNLI":
        names = {"train.tsv": train, "dev_matched.tsv": dev, "dev_mismatched.tsv": dev + 1}
    for name, count in names.items():
        rows = [row(f"{name} {k} a", f"{name} {k} b", spelt[k % len(spelt)]) for k in range(count)]
        text = newline.join([header] * bool(header) + rows) + newline
        (folder / name).write_bytes((start + text).encode())
    return folder


@pytest.fixture
def refuse():
    """One line, that begins with `where`, from a folder that will not do."""

    def call(folder, message, where="", **given):
        with one_line_error(message, start=where):
            load_glue(str(folder), **given)

    return call


@pytest.mark.parametrize("task", FILES)
@pytest.mark.parametrize(("start", "newline"), [("", "\n"), ("\ufeff", "\r\n")])
def test_every_row_of_every_task(tmp_path, task, start, newline):
    folder = write(tmp_path, task, start=start, newline=newline)
    dataset = load_glue(str(folder))
    assert dataset.name == task
    dev = "dev_matched.tsv" if task == "MNLI" else "dev.tsv"
    classes = 3 if task == "MNLI" else 2
    assert len(dataset.classes) == classes
    (is_val,) = cut(20, [2], 0)
    kept = {"train": ~is_val, "val": is_val, "test": torch.ones(6, dtype=torch.bool)}
    for name, rows in kept.items():
        part, file = getattr(dataset, name), dev if name == "test" else "train.tsv"
        rows = rows.nonzero().flatten()
        assert torch.equal(part.index, rows)
        assert torch.equal(part.labels, rows % classes)
        assert part.labels.dtype == part.index.dtype == torch.int64
        assert part.first == [f"{file} {k} a" for k in rows.tolist()]
        second = None if task in SINGLE else [f"{file} {k} b" for k in rows.tolist()]
        assert part.second == second


def test_which_number_is_which_class():
    classes = {name: task.classes for name, task in TASKS.items()}
    assert classes == {
        "CoLA": ("unacceptable", "acceptable"),
        "SST-2": ("negative", "positive"),
        "MRPC": ("not_equivalent", "equivalent"),
        "QQP": ("not_duplicate", "duplicate"),
        "MNLI": ("contradiction", "entailment", "neutral"),
        "MNLI-mm": ("contradiction", "entailment", "neutral"),
        "QNLI": ("entailment", "not_entailment"),
        "RTE": ("entailment", "not_entailment"),
    }
    metrics = {name: task.metrics for name, task in TASKS.items() if task.metrics != ("accuracy",)}
    assert metrics == {
        "CoLA": ("matthews",),
        "MRPC": ("accuracy", "f1"),
        "QQP": ("accuracy", "f1"),
    }


def test_columns_are_found_by_name(tmp_path):
    folder = write(tmp_path, "RTE")
    for name in ("train.tsv", "dev.tsv"):
        rows = [f"entailment\tx\tb {k}\ta {k}" for k in range(9)]
        (folder / name).write_text("\n".join([" label \tmore\tsentence2\tsentence1", *rows]))
    test = load_glue(str(folder)).test
    assert test.first == [f"a {k}" for k in range(9)]
    assert test.second == [f"b {k}" for k in range(9)]


def test_text_is_kept_as_it_is(tmp_path):
    """Quotes, odd separators and capitals too; only space at the ends goes."""
    folder = write(tmp_path, "SST-2")
    text = '"Don\'t,\x0c no\u2028t\x85 "" ÜBER'
    (folder / "dev.tsv").write_text(f"sentence\tlabel\n {text}  \t1\n\t0\n", encoding="utf-8")
    test = load_glue(str(folder)).test
    assert test.first == [text, ""]
    assert test.labels.tolist() == [1, 0]


def test_rows_without_a_gold_label_are_left_out(tmp_path):
    folder = write(tmp_path, "MNLI")
    row = FILES["MNLI"][1]
    with open(folder / "dev_matched.tsv", "a") as file:
        file.write(row("x", "y", "-") + "\n" + row("last", "y", "neutral") + "\n")
    test = load_glue(str(folder)).test
    assert test.first[-1] == "last"
    assert test.index.tolist() == [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize("name", ["MNLI-mm", "mnli_MM"])
def test_the_mismatched_test(tmp_path, name):
    folder = write(tmp_path, "MNLI")
    by_name = load_glue(name, tmp_path)
    by_task = load_glue(str(folder), task=name)
    assert by_name.test.first == by_task.test.first
    assert by_name.test.first == [f"dev_mismatched.tsv {k} a" for k in range(7)]
    assert (by_name.name, by_task.name) == (name, "MNLI")


@pytest.mark.parametrize("name", ["SST-2", "sst2", "SST2", "Sst_2"])
def test_a_folder_below_the_root_in_any_spelling(tmp_path, name):
    write(tmp_path, "SST-2")
    assert load_glue(name, tmp_path).name == name
    (tmp_path / "SST-2").rename(tmp_path / "mine")
    assert load_glue("mine", tmp_path, task=name).metrics == ("accuracy",)


def test_the_cut_is_that_of_images(tmp_path):
    folder = write(tmp_path, "CoLA", train=50)
    for size, count in ((0.3, 15), (7, 7)):
        dataset = load_glue(str(folder), val_size=size, split_seed=3)
        (is_val,) = cut(50, [count], 3)
        assert torch.equal(dataset.val.index, is_val.nonzero().flatten())


def test_fingerprint(tmp_path):
    """Of the texts, where they begin, the labels, and the cut; not of the folder's name."""
    folder = write(tmp_path, "QNLI")
    one = load_glue(str(folder))
    assert len(one.fingerprint()) == 16
    assert one.fingerprint() == load_glue("QNLI", tmp_path).fingerprint()
    assert one._replace(name="other").fingerprint() == one.fingerprint()
    test = one.test
    moved = [test.first[0] + test.first[1][0], test.first[1][1:], *test.first[2:]]
    assert "".join(moved) == "".join(test.first)
    seen = {one.fingerprint(), load_glue(str(folder), split_seed=1).fingerprint()}
    for changed in (
        replace(test, first=moved),
        replace(test, first=test.second, second=test.first),
        replace(test, second=None),
        replace(test, labels=1 - test.labels),
    ):
        seen.add(one._replace(test=changed).fingerprint())
    assert len(seen) == 6


@pytest.mark.parametrize("broken", ["1\t2\t3\ta", "", "1\t2\t3\ta\tb"])
def test_a_few_rows_that_lack_fields_are_left_out(tmp_path, refuse, broken):
    folder = write(tmp_path, "QQP", train=202)
    path = folder / "train.tsv"
    lines = path.read_text().splitlines()
    lines[3] = broken
    path.write_text("\n".join(lines))
    dataset = load_glue(str(folder))
    index = torch.cat([dataset.train.index, dataset.val.index]).sort()[0]
    assert index.tolist() == [k for k in range(202) if k != 2]
    path.write_text("\n".join(lines[:101]))  # one of 100: not below one in a hundred
    refuse(folder, "line 4: fewer than 6 tab-separated fields, as in 1 of 100 rows", str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tsv", b"", "train.tsv is empty"),
        ("dev.tsv", b" \n\n", "dev.tsv is empty"),
        ("train.tsv", b"sentence\tlabel\n", "no labelled rows"),
        ("train.tsv", b"text\tlabel\na\t1\n", "line 1: no column sentence: SST-2 has sentence, la"),
        ("dev.tsv", b"sentence\tlabel\na\t1\nb\t2\n", "line 3: unknown label '2': SST-2 has 0, 1"),
        ("dev.tsv", b"sentence\tlabel\na\t\n", "line 2: unknown label '': SST-2 has 0, 1"),
        ("dev.tsv", b"sentence\tlabel\na\t-\n", "line 2: unknown label '-'"),
        ("dev.tsv", b"sentence\tlabel\na\t1\n\xff\t0\n", "line 3: not UTF-8"),
        (
            "dev.tsv",
            b"sentence\tlabel\n" + b"a\t1\n" * 9 + b"a\n",
            "line 11: fewer than 2 tab-separated fields",
        ),
    ],
)
def test_bad_files(tmp_path, refuse, name, content, message):
    folder = write(tmp_path, "SST-2")
    (folder / name).write_bytes(content)
    refuse(folder, message, str(folder / name))


@pytest.mark.parametrize("name", ["train.tsv", "dev.tsv"])
def test_a_missing_file(tmp_path, refuse, name):
    folder = write(tmp_path, "RTE")
    (folder / name).unlink()
    refuse(
        folder,
        "cannot be read (No such file or directory): RTE needs train.tsv and dev.tsv",
        str(folder / name),
    )


def test_bad_names(tmp_path, refuse):
    known = ", ".join(TASKS)
    folder = write(tmp_path, "SST-2")
    for asked in ({"task": "STS-B"}, {"task": "stsb"}):
        refuse(folder, f"is a regression task: give one of {known}", **asked)
    refuse(tmp_path / "STS-B", "a regression task")
    refuse(folder, f"'WNLI' is not a task of GLUE; tasks are {known}", task="WNLI")
    refuse(tmp_path, f"is not the name of a task: give --task; tasks are {known}")
    refuse("RTE", "no folder 'RTE' here or in", root=tmp_path)
    # A path that is not there is not the folder of that name somewhere else.
    refuse(tmp_path / "no" / "sst2", "no folder", root=tmp_path)
    refuse("nowhere", "no folder 'nowhere'", root=tmp_path, task="SST-2")
    refuse(folder, "val_size 20 puts 20 of 20 train texts aside", val_size=20)
    refuse(folder, "seed is -1", split_seed=-1)
