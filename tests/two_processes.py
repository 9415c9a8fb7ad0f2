"""What test_torchrun.py compares between one process and two; started by torchrun as a script.

two_processes.py RUNS.json OUT.pt: `train` of each [script, arguments], then `steps`.
two_processes.py --kill STEP ARGUMENTS: train_edgenet_async.py, process 1 of which is killed at
that step of the job's first attempt; then prints the steps of the last.
"""

import importlib
import json
import os
import signal
import sys

import torch
from torch import nn

import tests.made  # noqa: F401, registers the edge net of SMALL_EDGE
import train_edgenet_async
from experiment.parallel import ALONE, Workers
from learning_to_help import steps as algorithm
from learning_to_help.edge_copies import EdgeCopies, adaptive
from learning_to_help.settings import Setting

FREQS = [1, 3, 100, 0, "joint", adaptive(0), adaptive(0.3)]
SETTINGS = [Setting(s, 1.25, 0.25) for s in FREQS]
SETTINGS += [Setting(1, 1.0, 0.0), Setting(3, None, None, "one_vs_all")]
SIZES = 9, 8, 5, 8, 3  # of an epoch's batches: uneven shares, and one that is not shared


def steps(workers: Workers = ALONE) -> dict:
    """Two epochs of Algorithm 1 in float64: L1 and L2 of each batch, all weights and refreshes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    edge = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 4)
    ).train()
    optimizer = torch.optim.SGD(edge.parameters(), 0.05, 0.9)
    edge_step = algorithm.EdgeStep(edge, optimizer, max(SIZES), workers=workers)
    rejectors = algorithm.Rejectors(
        SETTINGS, edge, torch.device("cpu"), seed=0, lr=0.01, momentum=0.9, outages=[(4, 6)],
        probe=torch.randn(9, 3, 32, 32), probe_every=2, ask=edge_step.ask, workers=workers,
    )  # fmt: skip
    images = torch.randn(sum(SIZES), 3, 32, 32)
    labels, local = torch.randint(0, 4, (len(images),)), torch.randn(len(images), 4)
    rows = [*torch.arange(len(images)).split(SIZES)]
    mine = [r if len(r) < 2 * workers.world else workers.share(r) for r in rows]
    losses = []
    for _ in range(2):
        rejectors.copies.start_epoch(mine, images.__getitem__)
        for i, r in enumerate(mine):
            batch = images[r], images[r], labels[r], local[r]
            losses += [
                torch.cat([x.view(-1) for x in algorithm.step(i, edge_step, rejectors, *batch)])
            ]
    torch.set_default_dtype(before)
    copies = rejectors.copies.state()
    weights = [edge.state_dict(), rejectors.net.state_dict(), *copies["copies"].values()]
    return {
        "losses": torch.stack(losses),
        "weights": [{k: v.clone() for k, v in w.items()} for w in weights],
        "refreshes": dict(copies["refreshes"]),
    }


def kill_at(step: int) -> list[int]:
    """Die at that step of the job's first attempt, in process 1; returns the list of steps."""
    answers, taken = EdgeCopies.answers, []
    first = (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == ("1", "0")

    def killed(self, *args):
        if first and self.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        taken.append(self.step)
        return answers(self, *args)

    EdgeCopies.answers = killed
    return taken


if __name__ == "__main__":
    if sys.argv[1] == "--kill":
        taken = kill_at(int(sys.argv[2]))
        train_edgenet_async.main(sys.argv[3:])
        if os.environ["RANK"] == "0" and taken:
            print(f"steps {taken[0]} to {taken[-1]} after the last start")
    else:
        with open(sys.argv[1]) as f:
            runs = json.load(f)
        with Workers.of_torchrun() as workers:
            for name, argv in runs:
                script = importlib.import_module(name)
                script.train(script.parse_args(argv), workers)
            found = steps(workers)
            if workers.rank == 0:
                torch.save(found, sys.argv[2])
