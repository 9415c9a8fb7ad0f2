"""Training a round's targets: the step written out, votes, what is kept, what is refused."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import data
import experiment
from active_learning import train_net
from active_learning.index_sets import IndexSet
from active_learning.strategies import METHODS
from active_learning.target_models import read_targets
from active_learning.train_net import make_optimizer, set_bn_momentum, weight_seed
from data.augment import random_resized_crop
from experiment.parallel import Workers
from tests.active_learning.conftest import TRAIN, TRAINED
from tests.made import quiet


def labels_of(study, method="random", round_=0):
    where = ["digits", "0.npz"] if round_ == 0 else ["2", "digits", method, f"{round_}.npz"]
    return np.load(study.joinpath("index_sets", *where))


def nets_of(study, name):
    """net.json by number of labels and digest."""
    files = sorted((study / "nets" / "digits" / name).glob("*/net.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


@pytest.fixture(scope="module")
def by_hand(study, targets):
    """convnet on round 0, by a loop of its own: (weights, votes [4, M], initial weights)."""
    target = read_targets(targets)[1]
    dataset = data.load("digits", val_size=0.1)
    rows = labels_of(study)
    part = data.Part(*(v[torch.from_numpy(rows["labelled"])] for v in dataset.train))
    rest = data.Part(*(v[torch.from_numpy(rows["unlabelled"])] for v in dataset.train))
    net = target.build(10, weight_seed(0, target), 0.1).to(memory_format=torch.channels_last)
    initial = {k: v.clone() for k, v in net.state_dict().items()}
    batches = data.Batches(
        part, 10, "cpu", shuffle=True, seed=0, augment=random_resized_crop(16, (0.6, 1))
    )
    momentum = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    votes, step, steps = [], 0, 4 * len(batches)
    for epoch in range(1, 5):
        experiment.seed_everything(0, epoch)
        net.train()
        for _, images, labels in batches.epoch(epoch):
            logits = net(images)
            smooth = 0.9 * F.one_hot(labels, 10) + 0.1 / 10
            loss = -(smooth * F.log_softmax(logits, -1)).sum(-1).mean()
            grads = torch.autograd.grad(loss, list(net.parameters()))
            lr = 0.05 * (1 + math.cos(math.pi * step / steps)) / 2
            with torch.no_grad():
                for (name, p), g in zip(net.named_parameters(), grads, strict=True):
                    if p.ndim > 1:
                        g = g + 3e-5 * p
                    momentum[name] = 0.9 * momentum[name] + g
                    p -= lr * (g + 0.9 * momentum[name])
            step += 1
        net.eval()
        with torch.no_grad():
            answers = [net(images).argmax(-1) for _, images, _ in data.Batches(rest, 500, "cpu")]
        votes.append(torch.cat(answers).numpy())
    return net.state_dict(), np.stack(votes), initial


@pytest.fixture(scope="module")
def trained(study):
    """The folder of convnet trained on round 0."""
    digest = next(d for d, about in nets_of(study, "convnet").items() if about["labels"] == 60)
    return study / "nets" / "digits" / "convnet" / digest


def test_the_weights_are_those_of_sgd_written_out(by_hand, trained):
    """To a twentieth of how far each has moved: rounding grows from step to step."""
    found = experiment.load_checkpoint(trained / "net.pth")["state_dict"]
    assert found.keys() == by_hand[0].keys()
    for name, value in by_hand[0].items():
        moved = (value - by_hand[2][name]).float().norm()
        assert (found[name] - value).float().norm() <= 0.05 * moved, name


def test_votes_are_the_classes_after_each_of_the_last_epochs_unaugmented(by_hand, trained):
    votes = np.load(trained / "votes.npz")["votes"]
    assert votes.shape == (2, 1017)  # half of 4 epochs
    assert (votes == by_hand[1][2:]).mean() > 0.99
    for earlier in by_hand[1][:3]:  # another epoch would have been noticed
        assert (earlier != by_hand[1][3]).mean() > 0.05


def test_test_images_are_seen_as_they_are(trained, targets):
    found = np.load(trained / "predictions.npz")
    net = read_targets(targets)[1].build(10, 0).eval()
    net.load_state_dict(experiment.load_checkpoint(trained / "net.pth")["state_dict"])
    dataset = data.load("digits", val_size=0.1)
    for split, part in enumerate((dataset.val, dataset.test)):
        with torch.no_grad():
            logits = net(part.images.float() / 127.5 - 1)
        saved = found["stage_logits"][0][found["split"] == split]
        np.testing.assert_allclose(saved, logits, rtol=1e-4, atol=1e-4)
        assert (found["index"][found["split"] == split] == part.index.numpy()).all()


def test_votes_are_kept_in_round_0_and_where_the_method_needs_them(study):
    def kept(name, *labels):
        digest = digest_of(labels_of(study, *labels)["labelled"])
        return (study / "nets" / "digits" / name / digest / "votes.npz").exists()

    for name in ("lenet5", "convnet"):
        assert kept(name, "random", 0)
        assert not kept(name, "random", 1)
        assert kept(name, "DIAM", 1)
    assert kept("small", "DIAM", 0)  # unseen, but with a larger T it may be of the committee
    assert not kept("small", "DIAM", 1)


def digest_of(rows):
    return IndexSet(rows, rows, rows, {}).digest


def test_nothing_is_trained_twice(study, common, capsys):
    """Round 0 is one network a target, whatever the methods; and none is trained again."""
    labelled = {digest_of(labels_of(study)["labelled"])}
    labelled |= {digest_of(labels_of(study, method, 1)["labelled"]) for method in TRAINED}
    assert len(labelled) == 3
    for name in ("lenet5", "convnet", "small"):
        assert set(nets_of(study, name)) == labelled
    before = {p: p.stat().st_mtime_ns for p in study.rglob("net.*")}
    for round_, methods in enumerate((METHODS, TRAINED)):
        flags = [*common(study, round_, *methods), *TRAIN, "--net_id", 0, 1, 2]
        train_net.main([str(a) for a in flags])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert all(line.endswith(": complete") for line in lines)
    assert {p: p.stat().st_mtime_ns for p in study.rglob("net.*")} == before


def test_a_killed_training_begins_again_to_the_same_weights(trained, study, common, tmp_path):
    """All that a kill in an epoch leaves behind: settings, a metric, no result."""
    begun = tmp_path / trained.relative_to(study)
    begun.mkdir(parents=True)
    (begun / "args.json").write_text((trained / "args.json").read_text())
    (begun / "metrics.jsonl").write_text('{"run": "net", "epoch": 1, "loss": 9}\n{"run": "ne')
    (begun / "net.pth.part").write_bytes(b"cut")
    sets = tmp_path / "index_sets" / "digits"
    sets.mkdir(parents=True)
    (sets / "0.npz").write_bytes((study / "index_sets" / "digits" / "0.npz").read_bytes())
    quiet(train_net.main, *common(tmp_path, 0, "random"), *TRAIN, "--net_id", 1)
    assert (begun / "net.pth").read_bytes() == (trained / "net.pth").read_bytes()
    lines = [json.loads(x) for x in (begun / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


class Apart(Workers):
    """A process of torchrun whose others run later, in the same test."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def one_line_errors(self):
        return experiment.one_line_errors()


def test_torchrun_shares_the_targets_out(study, common, tmp_path, monkeypatch, capsys, refused):
    """Each process trains its targets whole: the files of one process; none may be without any."""
    sets = tmp_path / "index_sets" / "digits"
    sets.mkdir(parents=True)
    (sets / "0.npz").write_bytes((study / "index_sets" / "digits" / "0.npz").read_bytes())
    flags = [*common(tmp_path, 0, "random"), *TRAIN, "--net_id", 0, 1, 2]
    for rank, count in ((0, 2), (1, 1)):
        monkeypatch.setattr(Workers, "of_torchrun", lambda rank=rank: Apart(rank, 2))
        train_net.main([str(flag) for flag in flags])
        assert len(capsys.readouterr().out.splitlines()) == count
    nets = sorted(tmp_path.rglob("net.json"))
    assert len(nets) == 3
    for path in nets:
        same = study / path.relative_to(tmp_path)
        assert {p.name for p in path.parent.iterdir()} == {p.name for p in same.parent.iterdir()}
        for name in ("net.pth", "votes.npz"):
            assert (path.parent / name).read_bytes() == (same.parent / name).read_bytes()
    monkeypatch.setattr(Workers, "of_torchrun", lambda: Apart(0, 4))
    refused(train_net.main, *flags, telling="4 processes for 3 networks to train")


def test_bf16_is_another_computation_of_the_same(study, common, tmp_path):
    sets = tmp_path / "index_sets" / "digits"
    sets.mkdir(parents=True)
    (sets / "0.npz").write_bytes((study / "index_sets" / "digits" / "0.npz").read_bytes())
    flags = ["--net_id", 0, "--bf16", "--no-channels_last", "--no-mDIS"]
    quiet(train_net.main, *common(tmp_path, 0, "random"), *TRAIN, *flags)
    (path,) = tmp_path.rglob("net.json")
    about = json.loads(path.read_text())
    assert (about["bf16"], about["channels_last"]) == (True, False)
    assert not (path.parent / "votes.npz").exists()
    logits = [
        np.load(root / path.parent.relative_to(tmp_path) / "predictions.npz")["stage_logits"]
        for root in (study, tmp_path)
    ]
    assert logits[1].dtype == np.float32
    assert (logits[0] != logits[1]).any()
    np.testing.assert_allclose(logits[0], logits[1], atol=0.3)


def test_batch_norm_and_biases_do_not_decay():
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    decaying, others = make_optimizer(net, 0.1, 0.9, 3e-5, torch.device("cpu")).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (3e-5, 0)
    assert decaying["nesterov"]
    assert [p is net[0].weight for p in decaying["params"]] == [True]
    assert len(others["params"]) == 3


def test_two_targets_of_one_shape_begin_unlike(targets):
    lenet = read_targets(targets)[0]
    assert weight_seed(0, lenet) != weight_seed(0, lenet._replace(name="other"))
    assert weight_seed(0, lenet) != weight_seed(1, lenet)


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--net_id", 3], "net 3: there are 3 targets"),
        (["--model_num", 4], "--model_num 4: there are 3 targets"),
        (["--al_iter", 7], "no labels of round 7 here"),
        (["--crop_scale", 1, 0.5], "the lower share first"),
        (["--epochs", 5], "made with other values of --epochs"),
        (["--seed", 5], "its seed is 0, not 5"),
        (["--val_size", 0.2], "other data or another val split"),
        (["--targets", "none.json"], "none.json"),
        (["--ofa_dir", "nowhere"], "nowhere"),
        (["--method", "best"], "invalid choice"),
    ],
)
def test_bad_flags_are_refused(study, common, refused, flags, telling):
    before = sorted(p for p in study.rglob("*"))
    refused(train_net.main, *common(study, 0, "random"), *TRAIN, *flags, telling=telling)
    assert sorted(p for p in study.rglob("*")) == before


def test_missing_votes_are_an_error_before_training(study, common, refused):
    """A run without votes, asked for them: no silent second training."""
    flags = [*common(study, 1, "random"), *TRAIN, "--mDIS"]
    refused(train_net.main, *flags, telling="no votes; python -m active_learning.train_net --mDIS")


def test_divergence_is_one_line(common, refused, study, tmp_path):
    sets = tmp_path / "index_sets" / "digits"
    sets.mkdir(parents=True)
    (sets / "0.npz").write_bytes((study / "index_sets" / "digits" / "0.npz").read_bytes())
    flags = [*common(tmp_path, 0, "random"), *TRAIN, "--lr", "1e30", "--net_id", 0]
    refused(train_net.main, *flags, telling="lower the --lr")
    assert not list(tmp_path.rglob("net.json"))


def test_dropout_follows_from_the_seed(study, common, tmp_path):
    """A target of the once-for-all space drops the same, whatever was drawn before."""
    spec = {"name": "drops", "size": 16, "depths": [1] * 5, "kernels": [3] * 5}
    spec |= {"expansions": [1] * 5, "widths": [8] * 7 + [16, 16]}
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps(["lenet5", spec]))
    weights = []
    for drawn in (1, 2):
        run = tmp_path / str(drawn)
        sets = run / "index_sets" / "digits"
        sets.mkdir(parents=True)
        (sets / "0.npz").write_bytes((study / "index_sets" / "digits" / "0.npz").read_bytes())
        flags = ["--targets", targets, "--net_id", 1, "--dropout", 0.5, "--no-mDIS"]
        torch.manual_seed(drawn)
        quiet(train_net.main, *common(run, 0, "random"), *TRAIN, *flags)
        weights.append(next(run.rglob("net.pth")).read_bytes())
    assert weights[0] == weights[1]


def test_batch_norm_keeps_up_in_few_steps():
    net = torch.nn.Sequential(torch.nn.BatchNorm2d(1, momentum=0.01), torch.nn.BatchNorm1d(1))
    set_bn_momentum(net, 0.3)
    assert [layer.momentum for layer in net] == [0.3, 0.3]
