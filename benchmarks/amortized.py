"""Time to train one rejector for all costs, compared with one rejector per cost.

  python -m benchmarks.amortized --out results/published/benchmarks/amortized-cpu.json

The baseline is the stack of 42 LeNet-5 rejectors: its step (forward, loss, backward, SGD) is timed
and multiplied by the steps of --epochs passes over --images. The training of the amortized rejector
is timed as a whole: the student of `--rejector_input features` (14 passes), the combiner with the
choice of its L2 strength, and the calibration. The local net's features and the edge net's
predictions, which both need once, are not timed. Images are random, of CIFAR-10's size.
"""

import statistics
from pathlib import Path

import torch

import data
import experiment
from benchmarks.points import about, add_common, random_part, seconds
from data.parts import Part
from deferral.risk import PAPER_COSTS
from learning_to_help import amortized
from losses.surrogates import StackedLoss
from models.amortized import AmortizedRejector
from models.localnet import LeNet5
from models.rejector import new_rejectors

HELD_OUT = 5000  # images on which the combiner is fitted and calibrated
STUDENT_EPOCHS = 14  # train_rejector.py's default


def seconds_per_step(device, batch_size: int, steps: int) -> float:
    """Seconds of one step of the 42 stacked rejectors."""
    stack = new_rejectors(len(PAPER_COSTS), 0).to(device)
    optimizer = torch.optim.SGD(stack.parameters(), 1e-3, 0.9, fused=True)
    costs_1, costs_e = ([pair[k] for pair in PAPER_COSTS] for k in (0, 1))
    loss = StackedLoss(["stage_switching"] * len(PAPER_COSTS), costs_1, costs_e, device)
    images = torch.randn(batch_size, 3, 32, 32, device=device)
    logits = torch.randn(batch_size, 10, device=device)
    labels = torch.randint(10, (batch_size,), device=device)
    wrong = (torch.rand(batch_size, device=device) < 0.2).expand(len(PAPER_COSTS), -1)

    def step():
        total = loss(stack(images), logits, labels, wrong).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    step()
    return seconds(lambda: [step() for _ in range(steps)], device) / steps


def amortized_fit(device, part: Part, held_out: Part):
    """Returns a function that fits one rejector for all costs; shared inputs are precomputed."""
    torch.manual_seed(0)
    local = LeNet5(10).to(device).eval()
    batches = data.Batches(part, 128, device, shuffle=True)
    in_order, in_order_held_out = (data.Batches(p, 500, device) for p in (part, held_out))
    features = amortized.both_answers(local, local, in_order)[1]
    edge_logits = 3 * torch.randn(len(part.labels), 10, device=device)
    right = (torch.rand(len(part.labels), 2, device=device) < 0.7).float()
    right_held_out = (torch.rand(len(held_out.labels), 2, device=device) < 0.7).float()

    def fit():
        net = AmortizedRejector("features", 10, features.shape[1]).to(device)
        steps = amortized.train_student(
            net, batches, local, edge_logits, features, right, epochs=STUDENT_EPOCHS, lr=2e-3
        )
        assert len(list(steps)) == STUDENT_EPOCHS
        described = amortized.describe_all(net, local, in_order_held_out)
        amortized.fit_combiner(net, described, right_held_out)
        amortized.calibrate(net, net.combiner(described).detach(), right_held_out)

    return fit


def main(argv=None):
    parser = experiment.Parser(__doc__)
    parser.add_argument("--images", type=int, default=40_000, help="training images")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the 42 rejectors")
    parser.add_argument("--batch_size", type=int, default=64, help="batch size of the 42 rejectors")
    parser.add_argument("--steps", type=int, default=10, help="steps of the 42 rejectors per round")
    add_common(parser, rounds=3)
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    fit = amortized_fit(device, random_part(args.images), random_part(min(HELD_OUT, args.images)))
    steps = args.epochs * -(-args.images // args.batch_size)
    rounds = [
        (seconds_per_step(device, args.batch_size, args.steps) * steps, seconds(fit, device))
        for _ in range(args.rounds)
    ]
    per_cost, one = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratios = sorted(a / b for a, b in rounds)
    result = about(
        device,
        **{k: getattr(args, k) for k in ("images", "epochs", "batch_size", "rounds")},
        one_a_cost_seconds=per_cost,
        amortized_seconds=one,
        ratio=per_cost / one,
        ratio_range=[ratios[0], ratios[-1]],
    )
    print(f"{result['hardware']}, {args.images} images")
    print(
        f"42 rejectors, {args.epochs} epochs (from {args.steps} steps per round)  {per_cost:8.1f} s"
    )
    print(f"one amortized rejector on features                 {one:8.1f} s")
    print(f"ratio {per_cost / one:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")
    if args.out:
        experiment.write_json(Path(args.out), result)


if __name__ == "__main__":
    main()
