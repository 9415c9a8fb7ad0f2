"""BERT with exits on a made-up task of GLUE's layout: words decide the label, and it is learnt."""

import json
import random

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from deferral import budgets, exits
from deferral import predictions as saved
from early_exit import eval, infer, train
from early_exit.checkpoints import read
from tests.deferral.test_exits import thresholds_of
from tests.early_exit.test_parallel import EVERY_BATCH, interrupt_and_resume
from tests.made import quiet

GOOD, BAD = ("fine", "bright", "lovely"), ("dull", "poor", "weary")
REST = [f"word{i}" for i in range(20)]
SMALL = ("--num_layers", 2, "--hidden_dim", 32, "--num_heads", 2, "--mlp_dim", 64)
SMALL += ("--bert_dropout", 0, "--max_positions", 32, "--vocab_size", 500)
QUICK = ("--epochs", 2, "--batch_size", 16, "--optimizer", "adamw", "--lr", 6e-3)
QUICK += ("--schedule", "linear", "--warmup", 0.1)
WORDS = "embeddings.word_embeddings.weight"


def write_task(folder, header="sentence\tlabel", count=(240, 60)):
    """SST-2's files: one word of a kind, among others, in a text of 3 to 9 words."""
    draw = random.Random(0)
    folder.mkdir()
    for name, rows in zip(("train", "dev"), count, strict=True):
        lines = [header]
        for _ in range(rows):
            label = draw.randint(0, 1)
            words = [draw.choice(REST) for _ in range(draw.randint(2, 8))]
            words.insert(draw.randint(0, len(words)), draw.choice((BAD, GOOD)[label]))
            lines.append(f"{' '.join(words)}\t{label}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("glue") / "SST-2")


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    """A run directory of each method."""
    out = tmp_path_factory.mktemp("runs")
    for method in ("base", "l2w"):
        quiet(
            train.main, "--dataset", task, "--arch", "bert", *SMALL, *QUICK, "--method", method,
            "--save_dir", out / method,
        )  # fmt: skip
    return out


@pytest.mark.parametrize("method", ["base", "l2w"])
def test_every_method_learns_it_and_is_evaluated(method, task, trained, capsys):
    run = trained / method
    result = json.loads((run / "SST-2-bert.json").read_text())
    assert min(result["test"]) > 0.9
    quiet(eval.main, "--dataset", task, "--save_dir", run)
    pred = saved.load(run / "SST-2-predictions.npz")
    assert pred.correct[:, pred.split == 1].mean(1) == pytest.approx(result["test"])
    assert pred.settings["metrics"] == ["accuracy"]
    capsys.readouterr()
    quiet(infer.main, "--dataset", task, "--save_dir", run, "--seconds", 0, "--batch_sizes", 7)
    infers = json.loads((run / "SST-2-infer.json").read_text())
    assert [p["differences"] for p in infers["points"]] == [0] * len(infers["points"])


def test_a_checkpoint_needs_no_other_file(task, trained):
    """It holds the tokenizer: eval reads the same tokens, though nothing else is there."""
    trained = read(trained / "base" / "SST-2-bert.pth")
    words = json.loads(trained.about["tokenizer"])["model"]["vocab"]
    assert {"bright", "weary"} <= set(words)
    assert trained.settings["vocab_size"] == len(words) == len(trained.net.state_dict()[WORDS])


def test_a_folder_gives_weights_and_words(task, trained, tmp_path, capsys):
    """--model_path: what transformers saved is what training begins with, to the last weight."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = read(trained / "base" / "SST-2-bert.pth").about["tokenizer"]
    (tmp_path / "words.json").write_text(words)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "words.json"), pad_token="[PAD]", unk_token="[UNK]"
    )
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(5)
    model = BertModel(config)
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    train.main(
        [str(x) for x in (
            "--dataset", task, "--arch", "bert", "--model_path", tmp_path / "bert",
            "--epochs", 1, "--lr", 1e-12, "--optimizer", "adamw", "--save_dir", tmp_path / "run",
        )]
    )  # fmt: skip
    assert "begins with the BERT of" in capsys.readouterr().out
    ours = read(tmp_path / "run" / "SST-2-bert.pth").net.state_dict()
    for name, theirs in model.state_dict().items():
        if name in ours:
            torch.testing.assert_close(ours[name], theirs, rtol=0, atol=1e-6)
    assert "encoder.layer.1.output.dense.weight" in ours


@pytest.mark.parametrize("more", [(), ("--group_by_length",)])
def test_resumed_is_as_never_killed(more, task, trained, tmp_path, monkeypatch):
    flags = ["--dataset", task, "--arch", "bert", *SMALL, *QUICK, *more]
    never_killed = trained / "base"
    if more:
        never_killed = tmp_path / "whole"
        quiet(train.main, *flags, "--save_dir", never_killed)
    assert interrupt_and_resume(monkeypatch, 7, flags, tmp_path / "run", EVERY_BATCH) > 0
    whole = read(never_killed / "SST-2-bert.pth").net.state_dict()
    for name, weight in read(tmp_path / "run" / "SST-2-bert.pth").net.state_dict().items():
        assert torch.equal(weight, whole[name]), name


def test_results_have_the_metrics_of_the_task():
    """F1 and Matthews of every exit and budget, from their definitions."""
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 2, 200), draw.normal(size=(2, 200, 2)).astype(np.float32)
    logits[:, np.arange(200), labels] += 1
    pred = saved.Predictions(
        labels, logits, np.repeat([0, 1], 100), np.arange(200), np.zeros((0, 200)),
        {"metrics": ["accuracy", "f1", "matthews"]},
    )  # fmt: skip
    result = budgets.evaluate(pred, [10, 20])
    for row, answers in [
        *zip(result["anytime"], logits.argmax(-1)[:, 100:], strict=True),
        (result["budgeted"][0], None),
    ]:
        if answers is None:
            confidence = exits.confidence(logits[:, 100:])
            stop = exits.stops(confidence, thresholds_of(row))
            answers = logits[:, 100:].argmax(-1)[stop, np.arange(100)]
        truth = labels[100:]
        tp, tn = ((answers == truth) & (truth == k) for k in (1, 0))
        fp, fn = ((answers != truth) & (truth == k) for k in (0, 1))
        tp, tn, fp, fn = (x.sum() for x in (tp, tn, fp, fn))
        assert row["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
        root = np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
        assert row["matthews"] == pytest.approx((tp * tn - fp * fn) / root)
    pred.settings["metrics"] = ["auc"]
    with pytest.raises(ValueError, match="metric auc: there are accuracy, f1, matthews"):
        budgets.evaluate(pred, [10, 20])


def test_bad_input_is_refused(task, trained, tmp_path, refused):
    new = ["--save_dir", tmp_path / "run"]
    bert = ["--arch", "bert", *SMALL, *new]
    refused(train.main, "--dataset", "digits", "--task", "RTE", *new, telling="--task: goes with")
    refused(train.main, "--dataset", "digits", *bert, telling="'digits' is not the name of a task")
    refused(train.main, "--dataset", task, "--augment", "flip_crop", *bert, telling="for images")
    refused(train.main, "--dataset", task, "--task", "STS-B", *bert, telling="a regression")
    refused(train.main, "--dataset", task, *bert, "--num_heads", 5, telling="--num_heads 5")
    refused(train.main, "--dataset", task, *bert, "--model_path", tmp_path, telling="config.json")
    refused(
        train.main, "--dataset", task, *bert, "--optimizer", "adamw", "--nesterov",
        telling="--nesterov: goes with --optimizer sgd",
    )  # fmt: skip
    assert not (tmp_path / "run").exists()
    other = write_task(tmp_path / "SST-2", count=(100, 40))
    run = ["--save_dir", trained / "base"]
    refused(eval.main, "--dataset", other, *run, "--overwrite", telling="is not the data that")
    refused(
        eval.main, "--dataset", task, *run, "--overwrite", "--channels_last", telling="reads text"
    )
    refused(
        eval.main, "--dataset", task, *new, "--arch", "bert", "--model_path", "x.pth",
        telling="--model_path takes networks for images",
    )  # fmt: skip
