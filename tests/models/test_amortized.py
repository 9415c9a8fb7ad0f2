"""The amortized rejector's inputs, what its combiner sees, and how it is fitted."""

import numpy as np
import pytest
import torch

import data
from data.parts import Part
from learning_to_help import amortized
from learning_to_help.amortized import fit_per_cost
from losses.surrogates import SURROGATES
from models.amortized import INPUTS, AmortizedRejector
from models.cost import multiply_adds, parameters
from models.localnet import LeNet5


def inputs(rows=6, classes=10, features=604):
    torch.manual_seed(0)
    return (
        torch.randn(rows, 3, 32, 32),
        torch.randn(rows, classes),
        torch.randn(rows, features).relu(),
    )


def test_what_each_input_costs():
    counts = {}
    for kind in INPUTS:
        net = AmortizedRejector(kind, 10, 604, hidden=256)
        counts[kind] = parameters(net), multiply_adds(net, *inputs(1))
        width = net.combiner.in_features
    seen = 2 + 2 * (5 + 2 + 10 + 10) + 5  # right, both answers, their agreement
    assert width == seen
    assert counts["features"] == (
        604 * 256 + 256 + 256 * 12 + 12 + 2 * seen + 2,
        604 * 256 + 256 * 12 + 2 * seen,
    )
    lenet = 62_006 + 2 * 85, 651_720 + 2 * 84
    alone = 2 + 5 + 2 + 10 + 10
    assert counts["image"] == (lenet[0] + 2 * alone + 2, lenet[1] + 2 * alone)
    assert counts["both"][1] > counts["features"][1] + 651_720 - 840


@pytest.mark.parametrize(
    ("name", "student", "share"),
    [
        ("small", (11_387, 214_872), 1 / 3),
        ("large", (28_215, 650_504), 1),
    ],
)
def test_what_each_student_costs(name, student, share):
    """With the combiner no more than its share of LeNet-5's multiply-adds."""
    net = AmortizedRejector("both", 10, 604, net=name)
    assert net.on_image
    combiner = 2 * (2 + 2 * (5 + 2 + 10 + 10) + 5)
    counts = parameters(net), multiply_adds(net, *inputs(1))
    assert counts == (student[0] + combiner + 2, student[1] + combiner)
    assert counts[1] <= share * multiply_adds(LeNet5(10), inputs(1)[0])


def test_a_student_of_its_own_does_not_see_the_features():
    images, logits, features = inputs()
    net = AmortizedRejector("both", 10, 604, net="small").eval()
    estimated = net(images, logits, None)
    assert torch.equal(estimated, net(images, logits, features))
    assert not torch.equal(estimated, net(images.flip(3), logits, features))
    assert not torch.equal(estimated, net(images, logits.flip(1), features))


@pytest.mark.parametrize("kind", INPUTS)
def test_it_looks_at_its_input_only(kind):
    images, logits, features = inputs()
    net = AmortizedRejector(kind, 10, 604).eval()
    found = net(images, logits, features)
    assert found.shape == (6, 2)
    others = [torch.randn_like(x) for x in (images, logits, features)]
    same = {
        name: torch.equal(found, net(*changed))
        for name, changed in (
            ("images", (others[0], logits, features)),
            ("logits", (images, others[1], features)),
            ("features", (images, logits, others[2])),
        )
    }
    assert same == {
        "images": kind == "features",
        "logits": kind == "image",
        "features": kind == "image",
    }
    if kind == "features":
        assert torch.equal(found, net(None, logits, features))


def test_any_number_of_classes():
    for classes in (2, 3, 150):
        net = AmortizedRejector("features", classes, 30, hidden=8).eval()
        images, logits, features = inputs(classes=classes, features=30)
        assert net(images, logits, features).isfinite().all()
    assert net.combiner.in_features == 2 + 2 * (5 + 2) + 5  # none indexed by 150 classes


def test_extreme_logits_stay_finite():
    net = AmortizedRejector("features", 4, 5, hidden=8).eval()
    logits = torch.tensor([[1e4, -1e4, 0.0, 3.0]])
    assert net.describe(torch.full((1, 6), 1e4), logits).isfinite().all()


def test_unknown_input():
    with pytest.raises(ValueError, match="unknown; there are features, image, both"):
        AmortizedRejector("smell", 10, 604)
    with pytest.raises(ValueError, match="unknown; there are lenet5, small, large"):
        AmortizedRejector("both", 10, 604, net="huge")
    with pytest.raises(ValueError, match="needs the image"):
        AmortizedRejector("features", 10, 604, net="small")


def test_the_features_of_the_local_net_are_those_of_its_logits():
    torch.manual_seed(0)
    net, (images, *_) = LeNet5(7), inputs()
    logits, features = net.with_features(images)
    assert torch.equal(logits, net(images))
    assert features.shape == (6, LeNet5.num_features)
    assert torch.allclose(net.fc3(features[:, -84:]), logits)


def made_part(n=400):
    torch.manual_seed(3)
    images = torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8)
    return Part(images, torch.randint(0, 4, (n,)), torch.arange(n))


def test_the_student_learns_the_edge():
    """On a task where the edge's answer can be read off the features, the loss falls far."""
    part = made_part()
    features = torch.randn(400, 12)
    edge_logits = 4 * features[:, :4]
    right = (features[:, 4:6] > 0).float()
    net = AmortizedRejector("features", 4, 12, hidden=32)
    batches = data.Batches(part, 50, "cpu", shuffle=True)
    losses = list(
        amortized.train_student(
            net, batches, None, edge_logits, features, right, epochs=20, lr=1e-2
        )
    )
    assert losses[-1] < 0.7 * losses[0]
    guess = net.eval().student(None, features)
    assert (guess[:, :4].argmax(1) == edge_logits.argmax(1)).float().mean() > 0.85
    assert ((guess[:, 4:] > 0) == right.bool()).float().mean() > 0.85


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_student_loss_written_out(temperature):
    torch.manual_seed(0)
    guess, edge, right = torch.randn(5, 6), torch.randn(5, 4), (torch.rand(5, 2) < 0.5).float()
    total = 0.0
    for b in range(5):
        log_p = torch.log_softmax(guess[b, :4] / temperature, 0)
        soft = (edge[b] / temperature).softmax(0)
        total -= temperature**2 * (soft * log_p).sum().item()
        for k in range(2):
            p = guess[b, 4 + k].sigmoid()
            total -= (p if right[b, k] else 1 - p).log().item() / 2
    found = amortized.student_loss(guess, edge, right, temperature).item()
    assert found == pytest.approx(total / 5, rel=1e-5)


def test_a_student_on_the_image_is_distilled_at_its_temperature():
    """The loss of a single batch, before a step: batch norm sees the same images in any order."""
    part, (_, edge_logits, _) = made_part(), inputs(400, 4)
    right = (edge_logits[:, :2] > 0).float()
    net = AmortizedRejector("image", 4, 12, net="small").train()
    batches = data.Batches(part, 400, "cpu", shuffle=True)
    (rows, images, _) = next(iter(batches.epoch(1)))
    with torch.no_grad():
        guess = net.student(images, None)
    at = {
        t: amortized.student_loss(guess, edge_logits[rows], right[rows], t).item() for t in (1, 2)
    }
    features = torch.zeros(400, 12)
    (found,) = amortized.train_student(
        net, batches, None, edge_logits, features, right, epochs=1, lr=0.1
    )
    assert found == pytest.approx(at[2], rel=1e-5)
    assert abs(at[1] - at[2]) > 0.1


def test_the_combiner_finds_the_probabilities():
    """Labels drawn from a known logistic model: the fitted estimates come near the true ones."""
    torch.manual_seed(0)
    net = AmortizedRejector("features", 3, 4, hidden=4)
    width = net.combiner.in_features
    x = torch.randn(6000, width) * torch.linspace(0.1, 5, width) + 3
    weight = torch.zeros(2, width)
    weight[0, 1], weight[1, 2] = 2.0, -1.0
    truth = ((x - 3) @ weight.T + torch.tensor([0.5, 1.0])).sigmoid()
    right = (torch.rand(6000, 2) < truth).float()
    amortized.fit_combiner(net, x, right)
    error = (net.combiner(x).sigmoid() - truth).abs().mean(0)
    assert error.max() < 0.035


def test_the_combiner_of_a_net_that_is_always_right():
    net = AmortizedRejector("features", 3, 4, hidden=4)
    x = torch.randn(50, net.combiner.in_features)
    right = torch.tensor([[1.0, 0.0]]).expand(50, 2)
    amortized.fit_combiner(net, x, right)
    expected = torch.tensor([51 / 52, 1 / 52])
    assert torch.allclose(net.combiner(x).sigmoid(), expected.expand(50, 2))


def test_calibration_mends_what_is_too_sure():
    torch.manual_seed(0)
    net = AmortizedRejector("features", 3, 4, hidden=4)
    x = torch.randn(4000, net.combiner.in_features)
    with torch.no_grad():
        net.combiner.weight[:, 1:] = 0
        net.combiner.weight[:, 0] = 4.0
    right = (torch.rand(4000, 2) < torch.sigmoid(1.0 * x[:, :1] - 0.5)).float()
    amortized.calibrate(net, net.combiner(x).detach(), right)
    assert net.combiner.weight[:, 0].tolist() == pytest.approx([1, 1], abs=0.15)
    assert net.combiner.bias.tolist() == pytest.approx([-0.5, -0.5], abs=0.15)
    before = net.combiner.weight.clone()
    amortized.calibrate(net, net.combiner(x).detach(), torch.ones(4000, 2))
    assert torch.equal(net.combiner.weight, before)  # nothing to fit: left alone


def test_per_cost_is_the_minimum_of_its_loss():
    """The loss of each rises whichever of its weights is moved."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(2, [1, 3, 0.2], (300, 3))).float()
    labels = torch.zeros(300, dtype=torch.long)
    local = torch.from_numpy(rng.normal(size=(300, 2))).float()
    local[:, 0] += 2 * (x[:, 0] - 2)
    edge = torch.from_numpy(rng.normal(size=(300, 2))).float()
    edge[:, 0] += 1.5
    costs, names = [(1.0, 0.1), (1.25, 0.25)], ["stage_switching", "cost_sensitive"]
    weight, bias = fit_per_cost(x, local, edge, labels, names, costs)
    assert weight.shape == (4, 3)
    wrong = (edge.argmax(1) != labels)[None]
    std = x.std(0)

    def value(r, w, b):
        score = x @ w + b
        logits = torch.stack([torch.zeros_like(score), score], -1)[None]
        pair = [torch.tensor([[c]]) for c in costs[r % 2]]
        own = SURROGATES[names[r // 2]].loss(logits, local, labels, wrong, *pair)
        return (own.sum() + 1e-3 * (w * std).square().sum()).item()

    for r in range(4):
        least = value(r, weight[r], bias[r])
        for k in range(3):
            for step in (-0.05, 0.05):
                moved = weight[r].clone()
                moved[k] += step
                assert value(r, moved, bias[r] - step * x[:, k].mean()) > least
        assert value(r, weight[r], bias[r] + 0.05) > least
    score = x @ weight.T + bias
    assert 0 < (score[:, 0] > 0).sum() < 300
