"""Anybody's file of answers: what its columns become, and how bad ones are refused."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from deferral.external import Reading, load

N, K = 60, 3


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def data():
    """Labels, probabilities of a local net and answers of a remote one."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, K, N)
    p = softmax(rng.normal(size=(N, K)) + 1.5 * np.eye(K)[labels])
    return labels, p, np.where(rng.random(N) < 0.9, labels, (labels + 1) % K)


def columns(data, labels=None, scores=None, remote=None):
    own, p, answer = data
    scores = p if scores is None else scores
    table = {"label": own if labels is None else labels}
    table |= {f"local_{k}": scores[:, k] for k in range(scores.shape[1])}
    return table | {"remote_prediction": answer if remote is None else remote}


def write(path, table, separator=","):
    rows = [separator.join(table)]
    rows += [separator.join(map(str, row)) for row in zip(*table.values(), strict=True)]
    text = "\n".join(rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def save(path, table):
    """The same table in the form that the file's name says."""
    lists = {name: np.asarray(values).tolist() for name, values in table.items()}
    if ".jsonl" in path.name:
        rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(lists), path)
    else:
        write(path, lists, {".tsv": "\t", ".txt": ";"}.get(path.suffix, ","))
    return path


def same(a, b):
    """Whether two files say the same."""
    assert [m.name for m in a.models] == [m.name for m in b.models]
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.split, b.split)
    for one, other in zip(a.models, b.models, strict=True):
        np.testing.assert_array_equal(one.quality, other.quality)
        if one.logits is not None:
            np.testing.assert_allclose(softmax(one.logits), softmax(other.logits), atol=1e-6)


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_every_kind_of_file_says_the_same(data, name, tmp_path):
    same(load(write(tmp_path / "a.csv", columns(data))), load(save(tmp_path / name, columns(data))))


def test_an_npz_and_lists_in_parquet(data, tmp_path):
    labels, p, answer = data
    expected = load(write(tmp_path / "a.csv", columns(data)))
    arrays = {"Labels": labels[:, None], "local_scores": p, "remote_prediction": answer}
    np.savez(tmp_path / "a.npz", **arrays)
    same(expected, load(tmp_path / "a.npz"))
    table = {
        "y_true": labels.tolist(),
        "local_scores": p.tolist(),
        "answer_remote": answer.tolist(),
    }
    parquet.write_table(pa.table(table), tmp_path / "b.parquet")
    same(expected, load(tmp_path / "b.parquet"))


def test_who_is_right_is_told_in_four_ways(data, tmp_path):
    labels, p, answer = data
    right = np.stack([p.argmax(1) == labels, answer == labels])
    words = np.array(["cat", "dog", "cow"])
    for table, reading in (
        (columns(data), Reading()),
        ({"label": words[labels], "answer_local": words[p.argmax(1)],
          "answer_remote": words[answer]}, Reading()),
        ({"correct_local": right[0], "remote_correct": right[1].astype(int)}, Reading()),
        ({"quality_local": 1 + 9 * right[0], "quality_remote": 1 + 9 * right[1]},
         Reading(quality_scale=(1, 10))),
    ):  # fmt: skip
        answers = load(save(tmp_path / "a.jsonl", table), reading)
        np.testing.assert_array_equal([m.quality for m in answers.models], right)


@pytest.mark.parametrize(
    ("change", "form"),
    [
        (lambda p: p, "probabilities"),
        (lambda p: np.round(p, 2), "probabilities"),
        (lambda p: 100 * p, "percentages"),
        (lambda p: 1 / (1 + np.exp(-np.log(p) - 1)), "sigmoids"),
        (lambda p: np.log(p) - 3, "logits"),
        (lambda p: np.log(p) - np.log(p).min(), "logits"),
    ],
)
def test_the_form_of_class_scores_is_found_and_named(data, change, form, tmp_path):
    _, p, _ = data
    local = load(write(tmp_path / "a.csv", columns(data, scores=change(p)))).models[0]
    tolerance = 0.02 if form == "probabilities" else 1e-9
    np.testing.assert_allclose(softmax(local.logits), p, atol=tolerance)
    notes = dict(load(tmp_path / "a.csv").understood)
    assert notes["local"].startswith(form)


def test_a_form_that_is_asked_for_wins(data, tmp_path):
    path = write(tmp_path / "a.csv", columns(data))
    local = load(path, Reading(scores="logits")).models[0]
    np.testing.assert_array_equal(local.logits, data[1])


def test_masked_classes_are_never_answered(data, tmp_path):
    labels, p, answer = data
    logits = np.log(p)
    logits[:, 2] = -np.inf
    np.savez(tmp_path / "a.npz", labels=labels, local_logits=logits, remote_prediction=answer)
    local = load(tmp_path / "a.npz").models[0]
    np.testing.assert_array_equal(local.quality, p[:, :2].argmax(1) == labels)


@pytest.mark.parametrize("base", ["1 to K", "the last class is absent"])
def test_labels_that_count_from_one_are_noticed(data, base, tmp_path):
    labels, p, answer = (np.concatenate([x] * 3) for x in data)
    p = np.clip(p + np.random.default_rng(0).uniform(0, 1e-3, p.shape), 1e-6, None)
    p /= p.sum(1, keepdims=True)
    keep = labels < K - (base != "1 to K")
    answer = np.where(answer < K - 1, answer, 0)
    table = columns((labels, p, answer), labels=labels + 1, remote=answer + 1)
    answers = load(write(tmp_path / "a.csv", {k: v[keep] for k, v in table.items()}))
    np.testing.assert_array_equal(answers.models[0].quality, (p.argmax(1) == labels)[keep])
    np.testing.assert_array_equal(answers.models[1].quality, (answer == labels)[keep])
    assert "1" in dict(answers.understood)["labels"]


def test_class_columns_may_have_names_and_one_column_two_classes(data, tmp_path):
    labels, p, answer = data
    names = ["cat", "dog", "cow"]
    for written in (labels, np.array(names)[labels]):
        table = {"label": written} | {f"local_{n}": p[:, k] for k, n in enumerate(names)}
        answers = load(
            write(tmp_path / "a.csv", table | {"remote_prediction": np.array(names)[answer]})
        )
        np.testing.assert_array_equal(answers.models[0].quality, p.argmax(1) == labels)
        np.testing.assert_array_equal(answers.models[1].quality, answer == labels)
        assert answers.classes == tuple(names)
    positive = p[:, 1] / (p[:, 0] + p[:, 1])
    table = {"label": labels == 1, "local_1": positive, "remote_prediction": answer == 1}
    local = load(save(tmp_path / "b.jsonl", table)).models[0]
    np.testing.assert_allclose(softmax(local.logits)[:, 1], positive)


def test_missing_answers_are_wrong_or_dropped(data, tmp_path):
    labels, p, answer = data
    for absent in ("", "-1", "nan"):
        remote = [absent if n < 7 else str(a) for n, a in enumerate(answer)]
        path = write(tmp_path / "a.csv", columns(data, remote=remote))
        counted = load(path)
        np.testing.assert_array_equal(counted.models[1].quality[:7], 0)
        assert counted.models[1].missing.sum() == 7
        dropped = load(path, Reading(missing="drop"))
        np.testing.assert_array_equal(dropped.rows, np.arange(7, N))
        np.testing.assert_array_equal(dropped.models[0].quality, (p.argmax(1) == labels)[7:])
        assert "7" in dict(counted.understood)["missing answers"]


def test_models_are_asked_in_the_order_of_their_cost(tmp_path):
    rng = np.random.default_rng(0)
    table = {}
    for name, cost in (("huge", 9.0), ("tiny", 0.5), ("Middle", 2.0)):
        table |= {f"quality_{name}": rng.random(N), f"cost_{name}": np.full(N, cost)}
    path = write(tmp_path / "a.csv", table)
    assert [m.name for m in load(path).models] == ["tiny", "Middle", "huge"]
    chosen = load(path, Reading(models=("TINY", "huge")))
    assert [m.name for m in chosen.models] == ["tiny", "huge"]
    np.testing.assert_array_equal(chosen.models[1].cost, 9.0)


def test_scores_of_a_model_and_of_rules(data, tmp_path):
    labels, p, answer = data
    score = p.max(1)
    table = {"label": labels, "local_prediction": p.argmax(1), "local_confidence": score}
    table |= {"remote_prediction": answer, "rejector_router": 1 - score, "cost_e": score}
    path = write(tmp_path / "a.csv", table)
    answers = load(path)
    np.testing.assert_allclose(answers.models[0].score, score)
    np.testing.assert_allclose(load(path, Reading(doubts=("local",))).models[0].score, -score)
    np.testing.assert_allclose(answers.rejectors["router"], 1 - score)
    np.testing.assert_allclose(answers.query_cost, score)


def test_samples_of_a_group_are_never_parted(data, tmp_path):
    group = np.arange(N) // 5
    answers = load(write(tmp_path / "a.csv", columns(data) | {"group": group}))
    for members in (answers.split[group == g] for g in range(N // 5)):
        assert len(set(members)) == 1
    assert (answers.split == 0).sum() == N // 2


def test_repeated_rows_are_noticed_and_kept_together(data, tmp_path):
    table = {name: np.concatenate([values] * 4) for name, values in columns(data).items()}
    answers = load(write(tmp_path / "a.csv", table))
    assert len(np.unique(answers.group)) == N
    np.testing.assert_array_equal(answers.split.reshape(4, N), [answers.split[:N]] * 4)
    assert str(3 * N) in dict(answers.understood)["groups"]
    assert load(write(tmp_path / "b.csv", columns(data))).group is None


def test_the_split_of_a_file_and_a_seeded_one(data, tmp_path):
    words = np.array(["validation", "TEST"])[np.arange(N) % 2]
    path = write(tmp_path / "a.csv", columns(data) | {"split": words})
    np.testing.assert_array_equal(load(path).split, np.arange(N) % 2)
    path = write(tmp_path / "b.csv", columns(data))
    first, other = load(path), load(path, Reading(split_seed=1))
    assert (first.split == 0).sum() == (other.split == 0).sum() == N // 2
    assert (first.split != other.split).any()


def test_decimal_commas_quotes_and_a_byte_order_mark(data, tmp_path):
    labels, p, answer = data
    rows = ['"label";"local_0";"local_1";"local_2";"remote_prediction"']
    rows += [";".join([str(y), *(f"{x:.6f}".replace(".", ",") for x in row), str(a)])
             for y, row, a in zip(labels, p, answer, strict=True)]  # fmt: skip
    (tmp_path / "a.csv").write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    same(load(write(tmp_path / "b.csv", columns(data))), load(tmp_path / "a.csv"))


def test_unused_columns_are_named_with_the_nearest_name(data, tmp_path):
    table = columns(data) | {"anwser_remote2": np.arange(N), "cost_loca": np.ones(N)}
    del table["cost_loca"]
    note = dict(load(write(tmp_path / "a.csv", table | {"grup": np.arange(N)})).understood)
    assert "grup (is it group?)" in note["not used"]


GOOD = "label,local_0,local_1,remote_prediction,split\n0,1,0,1,val\n1,0,1,1,test\n"
BAD = {
    "no rows": "",
    "has no rows": "label,local_0,local_1,remote_prediction\n",
    "column local_0 twice": GOOD.replace("local_1", "Local_0", 1),
    "Expected 5 columns, got 4": GOOD.replace("1,test", "test"),
    "local's class scores": GOOD.replace("\n1,0,1", "\n1,0,nan"),
    "label is empty in row 1": GOOD.replace("\n1,0,", "\n,0,"),
    "label is 2 in row 1": GOOD.replace("\n1,0,", "\n2,0,"),
    "without gaps": GOOD.replace("local_1", "local_2"),
    "the only class score of local": GOOD.replace(",local_1", "").replace(",0,1,val", ",0,val")
    .replace(",1,1,test", ",1,test"),
    "no column of labels": GOOD.replace("label", "lable"),
    "only the model local": GOOD.replace("remote_prediction", "reply"),
    "split holds 'train'": GOOD.replace("val", "train"),
    "has no val rows": GOOD.replace("val", "test"),
    "both the label": GOOD.replace("split", "labels").replace("val", "0").replace("test", "1"),
    "does not say when router is right": GOOD.replace("split", "score_router")
    .replace("val", "0.5").replace("test", "1"),
    "must be a number of at least 0": GOOD.replace("split", "cost_e").replace("val", "-1")
    .replace("test", "1"),
    "no number": GOOD.replace("split", "rejector"),
    "rename the column": GOOD.replace("split", "rejector_entropy").replace("val", "0")
    .replace("test", "1"),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_text_is_refused_in_one_line(message, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(BAD[message])
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as e:
        load(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("kind", ["truncated", "text", "absent", "one array", "unknown", "objects"])
def test_a_file_that_is_no_table_is_refused_in_one_line(kind, data, tmp_path):
    labels, p, answer = data
    path = tmp_path / {"one array": "a.npy", "unknown": "a.xlsx"}.get(kind, "a.npz")
    np.savez(tmp_path / "a.npz", labels=labels, local_scores=p, remote_prediction=answer)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    elif kind in ("text", "unknown"):
        path.write_text("hello")
    elif kind == "one array":
        np.save(path, p)
    elif kind == "objects":
        np.savez(path, labels=np.array([{}, 1], dtype=object))
    else:
        path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=str(path)) as e:
        load(path)
    assert "\n" not in str(e.value)
