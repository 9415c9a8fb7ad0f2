"""What test_parallel.py compares between one process and two; started by torchrun as a script.

several.py ARGV.json OUT.pt: early_exit.train once for each argument list, then `steps`.
"""

import argparse
import json
import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from deferral.exits import shares as shares_of_exits
from early_exit import train
from early_exit.methods import L2W
from experiment.parallel import Workers
from models.vit_exits import ViTExits
from models.weight_net import WeightNet

VIT = "--hidden_dim 16 --num_layers 3 --num_heads 2 --mlp_dim 32 --patch_size 16"


def steps(workers: Workers, dimension: str, batch: int) -> list[torch.Tensor]:
    """Three batches of L2W in float64: all weights of the network and of the weight net."""
    parser = argparse.ArgumentParser()
    ViTExits.add_flags(parser.add_argument_group())
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    net = ViTExits.from_settings(vars(parser.parse_args(VIT.split())), 4, 32).train()
    weight_net = WeightNet(3, hidden=20)
    method = L2W(
        net,
        DistributedDataParallel(net) if workers.world > 1 else net,
        torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=1e-4),
        workers,
        weight_net=weight_net,
        # Adam would make rounding of tiny gradients as large as the gradients.
        meta_optimizer=torch.optim.SGD(weight_net.parameters(), 1.0),
        dimension=dimension,
        shares=shares_of_exits(0.75, 3),
    )
    for _ in range(3):
        images, labels = torch.randn(batch, 3, 32, 32), torch.randint(0, 4, (batch,))
        method.step(workers.share(images), workers.share(labels), batch)
    torch.set_default_dtype(before)
    return [p.detach() for p in (*net.parameters(), *weight_net.parameters())]


CASES = [("col", 16), ("mat", 7), ("row", 9)]  # uneven halves, and uneven shares of them

if __name__ == "__main__":
    # One process group for all: to join anew under the same launcher is not what a user does.
    with Workers.of_torchrun() as workers:
        with open(sys.argv[1]) as f:
            for argv in json.load(f):
                train.train(train.parse_args(argv), workers)
        found = [steps(workers, *case) for case in CASES]
        if workers.rank == 0:
            torch.save(found, sys.argv[2])
