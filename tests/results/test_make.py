"""results/make.sh: the studies, what they need, and one of them on a few pictures."""

import json

import numpy as np
import pytest
import torch

import data
from deferral.catalogue import RULES
from results import halved_test
from results.studies.resnet_cifar import resnet20, resnet56
from results.tables import TABLES
from tests.shell import ROOT, bash, commands, run

STUDIES = sorted(path.stem for path in ROOT.glob("results/studies/*.sh"))


@pytest.fixture
def pictures(tmp_path):
    """An npz like CIFAR-10's: 40 train and 160 test pictures, all different."""
    rng, arrays = np.random.default_rng(0), {}
    for part, n in (("train", 40), ("test", 160)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(n) % 10
    path = tmp_path / "cifar10.npz"
    np.savez(path, classes=np.array([f"class {k}" for k in range(10)]), **arrays)
    return path


def labelled(part):
    """The label of each picture, by its bytes."""
    pairs = zip(part.images, part.labels.tolist(), strict=True)
    return {picture.numpy().tobytes(): label for picture, label in pairs}


def test_half_of_the_test_pictures_become_train(pictures, tmp_path):
    out = tmp_path / "new" / "cifar10-held.npz"
    halved_test.main([str(pictures), str(out)])
    before, after = (data.load(str(path), val_size=2) for path in (pictures, out))
    assert after.classes == before.classes
    old, new = labelled(before.test), {}
    for part in (after.train, after.val, after.test):
        new |= labelled(part)
    assert new == old
    assert len(after.test.labels) == 80
    with pytest.raises(SystemExit):
        halved_test.main([str(pictures), str(out)])


def test_the_studies_are_listed_with_what_they_need_and_take():
    listed = bash("results/make.sh").stdout.splitlines()
    assert sorted(line for line in listed if not line.startswith(" ")) == STUDIES
    for study in STUDIES:
        about = listed[listed.index(study) + 1 :][:3]
        assert about[1].startswith("  needs: ")
        assert about[2].startswith("  takes: ")


@pytest.mark.parametrize("words", [["nothing"], ["../make"], ["cifar10-resnets", "run", "more"]])
def test_an_unknown_study_is_refused(words):
    done = bash("results/make.sh", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: usage: bash results/make.sh [STUDY [RUN]]; studies: ")


@pytest.mark.parametrize("study", STUDIES)
def test_what_a_study_lacks_is_named_before_anything_is_written(study, tmp_path):
    lacking = {
        name: str(tmp_path / "no") for name in ("RESNETS", "LITE0", "CIFAR10", "MNIST", "MINILM")
    }
    done = bash("results/make.sh", study, tmp_path / "run", **lacking)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert ": not there; " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture
def environment(pictures, tmp_path):
    """What make.sh needs for the pair: the pictures, and the networks with random weights."""
    for name, net in (("resnet20-12fca82f", resnet20), ("resnet56-4bfd9763", resnet56)):
        torch.save(net(10).state_dict(), tmp_path / f"{name}.th")
    return {"CIFAR10": str(pictures), "RESNETS": str(tmp_path), "SEEDS": "3"}


def test_a_study_ends_with_its_table(environment, tmp_path):
    words = ("results/make.sh", "cifar10-resnets", tmp_path / "run")
    lines = commands(*words, EXTRA="--device cpu", FAST="1", **environment)
    output = run(lines)
    assert "Alone, on test: local net " in output
    assert "| amortized, both | 0." in output
    assert lines[-1].split()[-1] in TABLES
    assert len(list((tmp_path / "run" / "kept").rglob("*-predictions.npz"))) == 1


def grey_npz(path, seed):
    """220 grey pictures whose brightness says their label; returns the path."""
    rng, arrays = np.random.default_rng(seed), {}
    for part, n in (("train", 160), ("test", 60)):
        labels = np.arange(n) % 4
        light = 60 * labels[:, None, None]
        arrays[f"x_{part}"] = (light + 60 * rng.random((n, 28, 28))).astype(np.uint8)
        arrays[f"y_{part}"] = labels
    np.savez(path, **arrays)
    return str(path)


def test_active_learning_compares_the_methods(tmp_path):
    targets = ["lenet5", {"net": "lenet5", "name": "another"}]
    (tmp_path / "targets.json").write_text(json.dumps(targets))
    environment = {
        "MNIST": grey_npz(tmp_path / "mnist.npz", 0), "FAST": "1", "SEEDS": "0",
        "KMNIST10K": grey_npz(tmp_path / "kmnist10k.npz", 1),
        "TARGETS": str(tmp_path / "targets.json"), "METHODS": "margin DIAM", "MODELS": "2",
    }  # fmt: skip
    lines = commands("results/make.sh", "mnist-kmnist-active", tmp_path / "run", **environment)
    output = run(lines)
    shown = output[output.rindex("kmnist10k, lenet5, another:") :].split("mnist, lenet5")[0]
    rows = {line.split()[1]: line for line in shown.splitlines() if line.startswith("| `")}
    assert list(rows) == ["`margin`", "`DIAM`"]
    assert rows["`DIAM`"].count(" to ") == 2  # top-1 and risk minus margin's; random is not there
    assert " to " not in rows["`margin`"]
    kept = (tmp_path / "run" / "kept").rglob("*.json")
    assert sorted(path.name for path in kept) == [
        "kmnist10k-2-methods.json",
        "mnist-2-methods.json",
    ]


def write_bert(folder, words):
    """A BERT of 6 small layers with a tokenizer of these words, as transformers saves them."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=words, pad_token="[PAD]", unk_token="[UNK]"
    )
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=6, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_glue(folder, rows=120):
    """MRPC and SST-2 in GLUE's layout: made-up texts, of a word for each label and others."""
    rng = np.random.default_rng(0)
    headers = {"MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", "SST-2": "sentence\tlabel"}
    texts = []
    for task, header in headers.items():
        (folder / task).mkdir(parents=True)
        for name, count in (("train", rows), ("dev", rows // 2)):
            lines = [header]
            for label in (np.arange(count) % 2).tolist():
                words = rng.choice(["one", "two", "three"], rng.integers(1, 8)).tolist()
                text = " ".join([*words, ("bad", "good")[label]])
                texts.append(text)
                pair = f"{label}\t1\t2\t{text}\t{text}"
                lines.append(pair if task == "MRPC" else f"{text}\t{label}")
            (folder / task / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return texts


def test_texts_that_leave_early_have_their_tables(tmp_path):
    pytest.importorskip("transformers")
    from data.text.wordpiece import learn_tokenizer

    (tmp_path / "words.json").write_text(learn_tokenizer(write_glue(tmp_path / "glue"), 100))
    write_bert(tmp_path / "bert", str(tmp_path / "words.json"))
    environment = {
        "MINILM": str(tmp_path / "bert"), "GLUE": str(tmp_path / "glue"), "TASKS": "MRPC SST-2",
        "FAST": "1", "SEEDS": "0",
    }  # fmt: skip
    output = run(commands("results/make.sh", "glue-minilm", tmp_path / "run", **environment))
    _, exits, speed_up = output.rsplit("| task | method | n |", 2)
    rows = [line.split(" | ")[:4] for line in exits.splitlines()[2:]]
    base, tasks = ["base", "L2W", "boosted"], {"MRPC": ["accuracy %", "F1 %"]}
    wanted = [["| MRPC", method, "1", word] for method in base for word in tasks["MRPC"]]
    assert rows == [*wanted, ["| SST-2", "base", "1", "accuracy %"]]
    times = [float(line.split(" | ")[-1].strip(" |")) for line in speed_up.splitlines()[2:]]
    assert len(times) == 4
    assert all(1 <= time <= 6.5 for time in times)


def results_of(study, pictures, folder, extra, **environment):
    """What a study of CIFAR-10 prints on a few pictures; it runs in `folder`/run."""
    environment |= {"CIFAR10": str(pictures), "FAST": "1", "SEEDS": "0", "EXTRA": extra}
    return run(commands("results/make.sh", study, folder / "run", **environment))


def test_the_papers_protocol_shows_all_rules_and_the_asynchronous_settings(pictures, tmp_path):
    extra = "--device cpu --edge_net convnet --epochs 1 --edge_size 16"
    output = results_of("l2h-cifar10", pictures, tmp_path, extra)
    _, rules, asynchronous = output.rsplit("\n| ---", 2)
    assert "| amortized, both | 0." in rules
    assert "| oracle | 0." in rules
    rows = [line.split(" | ")[:2] for line in asynchronous.splitlines() if line.startswith("| (")]
    refreshes = ["S = 1", "S = 100", "S = 1000", r"S = \|D\|"]
    costs = ["| (1, 0.25)", "| (1.25, 0)", "| (1.25, 0.25)"]
    assert rows == [[cost, refresh] for cost in costs for refresh in refreshes]


def test_the_asynchronous_study_trains_and_evaluates_every_seed(pictures, tmp_path):
    paths = {"CIFAR10": str(pictures), "SEEDS": "4 5"}
    lines = commands("results/make.sh", "cifar10-async", tmp_path / "run", **paths)
    seeded = [line.split()[0] for line in lines if "--seeds 4 5" in line]
    assert seeded == ["train_localnet.py", "train_edgenet_async.py", "eval_all.py"]
    assert "--async_freq 1 100 1000 0 --costs 1:0.25 1.25:0 1.25:0.25" in lines[1]
    assert any(line.endswith("--show cifar10-async") for line in lines)


def test_each_setting_of_all_rules_has_its_local_net_and_its_pictures(pictures, tmp_path):
    (tmp_path / "mnist.npz").write_text("")
    paths = {"CIFAR10": str(pictures), "MNIST": str(tmp_path / "mnist.npz")}
    lines = commands("results/make.sh", "all-rules", tmp_path / "run", SEEDS="0", **paths)
    local, edge = ([x for x in lines if x.startswith(f"train_{n}")] for n in ("local", "edge"))
    assert [line.split("--dataset ")[1].split()[0] for line in local] == [
        str(pictures), str(pictures), str(tmp_path / "mnist.npz"),
    ]  # fmt: skip
    assert ["--local_classes 0-8" in line for line in local] == [False, True, False]
    assert ["--augment flip_crop" in line for line in edge] == [True, True, False]
    assert len({line.split("--save_dir ")[1].split()[0] for line in edge}) == 3


def test_one_pretrained_server_stands_behind_every_seed(pictures, tmp_path):
    paths = {"CIFAR100": str(pictures), "LITE0": str(pictures), "SEEDS": "4 5"}
    lines = commands("results/make.sh", "cifar100-lite0", tmp_path / "run", **paths)
    edges = [line for line in lines if line.startswith("train_edgenet_async")]
    trained = f"--edge_weights {tmp_path}/run/server/cifar10-edgenet.pth"
    assert [trained in line for line in edges] == [False, True, True]
    assert ["--epochs 0" in line for line in edges] == [False, True, True]
    files, kept = (line for line in lines if line.startswith("-m results.keep"))
    assert files.endswith("--files *-report.json")
    assert kept.endswith("/kept/cifar100-lite0/. --without_rejectors")


@pytest.mark.parametrize("study", ["cifar10-exits-and-server", "cifar10-lite0-ceiling"])
def test_the_pretrained_server_stands_behind_other_rejectors_too(study, pictures, tmp_path):
    (tmp_path / "msdnet" / "exits" / "base").mkdir(parents=True)
    server = tmp_path / "server.pth"
    paths = {"CIFAR10": str(pictures), "MSDNET": str(tmp_path / "msdnet"), "SERVER": str(server)}
    words = ("results/make.sh", study, tmp_path / "run")
    lacking = bash(*words, **paths)
    assert lacking.returncode == 2
    assert lacking.stderr.startswith(f"error: {server}: not there; set SERVER to ")
    server.write_text("")
    (edge,) = (line for line in commands(*words, **paths) if line.startswith("train_edgenet"))
    assert f"--edge_size 128 --edge_weights {server} --epochs 0" in edge


def test_the_ceilings_table_comes_from_kept_predictions(pictures, tmp_path):
    extra = "--device cpu --edge_net convnet --epochs 1 --edge_size 16"
    output = results_of("cifar10-ceiling", pictures, tmp_path, extra)
    table = output[output.rindex("| rule | multiply-adds |") :]
    assert f"| {RULES['ceiling'].label} |" in table
    assert "| amortized, both, small |" in table


def test_exits_have_their_tables_and_then_a_server(pictures, tmp_path):
    output = results_of("cifar10-msdnet", pictures, tmp_path, "--device cpu")
    _, accuracy, optimism = output.rsplit("| method | ", 2)
    assert [line.split()[1] for line in accuracy.splitlines()[2:]] == ["base", "L2W", "boosted"]
    assert optimism.count("| train |") == optimism.count("| val |") == 3
    kept = sorted(path.name for path in (tmp_path / "run" / "kept").rglob("*.*"))
    figures = ["cifar10-msdnet-anytime.png", "cifar10-msdnet-budgeted.png"]
    assert kept == ["args.json"] * 3 + ["cifar10-eval.json"] * 3 + figures
    exits = tmp_path / "run" / "exits"
    for method in ("base", "l2w", "boosted"):
        evaluated, inferred = (
            json.loads((exits / method / "seed-0" / f"cifar10-{name}.json").read_text())
            for name in ("eval", "infer")
        )
        assert {row["fitted_on"] for row in evaluated["optimism"]} == {"train", "val", "test"}
        assert sum(point["differences"] for point in inferred["points"]) == 0
    names = {path.name for path in (exits / "figures").iterdir()}
    assert {"cifar10-msdnet-anytime.png", "cifar10-msdnet-budgeted.pdf"} <= names
    extra = "--device cpu --edge_net convnet --epochs 1 --edge_size 16"
    output = results_of(
        "cifar10-exits-and-server", pictures, tmp_path / "server", extra,
        MSDNET=str(tmp_path / "run"),
    )  # fmt: skip
    both = output.split("| rule | risk |")[1:]
    assert len(both) == 2
    assert all("| optimum (dynamic programming) | 0." in table for table in both)
    kept = sorted(path.name for path in (tmp_path / "server" / "run" / "kept").rglob("*.*"))
    figure = ["cifar10-exits_and_server.csv", "cifar10-exits_and_server.png"]
    report = ["cifar10-report.json", "cost_1-1.25"]
    assert kept == ["args.json", *2 * figure[:1], *2 * figure[1:], *report]


def test_a_study_without_predictions_keeps_its_numbers(environment, tmp_path):
    """And numbers that a killed run has written are not computed again."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for path in (tmp_path / "people.npz", run_dir / "people.json"):
        path.write_text("{}")
    words = ("results/make.sh", "cifar10-people-server", run_dir)
    environment |= {"PEOPLE": str(tmp_path / "people.npz"), "DATA_ROOT": str(tmp_path / "root")}
    lines = commands(*words, **environment)
    assert lines[0].endswith(f"run/answers --data_root {tmp_path}/root")
    programs = ["results.pair_answers", "results.keep", "results.tables"]
    assert [line.split()[1] for line in lines] == programs
    run(lines[1:2])
    assert (run_dir / "kept" / "cifar10-people-server" / "people.json").read_text() == "{}\n"
    assert set(lines[-1].split("--show ")[1].split()) <= set(TABLES)


def test_complete_answers_need_no_weights(tmp_path):
    for name in ("people.npz", "clean.npz"):
        (tmp_path / name).write_text("")
    lacking = {"RESNETS": str(tmp_path / "no"), "CIFAR10": str(tmp_path / "no.npz")}
    paths = {"ANSWERS": str(tmp_path), "PEOPLE": str(tmp_path / "people.npz")}
    words = ("results/make.sh", "cifar10-people-server", tmp_path / "run")
    lines = commands(*words, DATA_ROOT="/data", **paths, **lacking)
    assert f"-m results.pair_answers {tmp_path}/no.npz {tmp_path}/no {tmp_path} " in lines[0]
