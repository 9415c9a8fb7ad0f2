"""Cost against scale: milliseconds a step and bytes at the peak, beside the plain way's.

  python -m benchmarks.scale settings --out settings.json
  python -m benchmarks.scale data --device cuda --steps 1000 --out data.json
  python -m benchmarks.scale exits --out exits.json
  python -m benchmarks.scale_figure settings.json data.json exits.json

settings: 1 to 1,000 rejectors beside one edge, batch 16, and as many runs of one setting. data:
1,000 to 1,000,000 pictures of 32 px. exits: MSDNet of 1 to 10 blocks, trained each way, and its
last exit alone. What memory should be by a formula is beside what it is; the formulas are in
scale_settings.py, scale_data.py and scale_exits.py. All points of a curve take turns in one
process, all warm; the medians count, and the file keeps every round. A point that does
not fit in memory is left out, and a line says so.
"""

import argparse
from pathlib import Path

import torch

import experiment
from benchmarks import scale_data, scale_exits, scale_settings
from benchmarks.points import about
from experiment import number
from models.edgenet import edge_size

KINDS = {"settings": scale_settings, "data": scale_data, "exits": scale_exits}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, module in KINDS.items():
        own = kinds.add_parser(name, description=module.__doc__.splitlines()[0])
        count = number(int, 1)
        module.add_flags(own, count)
        own.add_argument("--rounds", type=count, default=5, help="turns taken; the median counts")
        own.add_argument("--device", default="best", help="cuda, cpu or best")
        own.add_argument("--out", help="write the rows there as JSON")
    return parser.parse_args(argv)


def main(argv=None):
    flags = vars(parse_args(argv))
    kind, out = flags.pop("kind"), flags.pop("out")
    with experiment.one_line_errors():
        device = flags["device"] = experiment.pick_device(flags["device"])
        if device.type == "mps":
            raise ValueError("--device mps: its memory is not counted here; give cuda or cpu")
        for name in flags.get("edges", ()):
            edge_size(name, 32)  # knows the names
    print(f"{experiment.hardware(device)}, torch {torch.__version__}")
    torch.manual_seed(0)
    rows = KINDS[kind].measure(**flags)
    KINDS[kind].say(rows)
    if out:
        found = about(device, kind=kind, batch=KINDS[kind].batch(flags), rows=rows)
        experiment.write_json(Path(out), found)


if __name__ == "__main__":
    main()
