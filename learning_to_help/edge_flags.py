"""The command line of train_edgenet_async.py."""

import argparse
from collections.abc import Sequence

import data
from experiment import Parser, number
from learning_to_help import finetune
from learning_to_help.flags import add_flags, check_flags
from learning_to_help.inputs import add_data_flags, add_step_flags, check_stream_flags
from models.edgenet import EDGE_NETS


def parse_args(doc: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(doc, torchrun=True)
    group = parser.add_argument_group("data")
    add_data_flags(group)
    group.add_argument("--local_path", help="local net to copy into SAVE_DIR")
    add_flags(parser)
    group = parser.add_argument_group("edge net")
    group.add_argument(
        "--edge_net",
        default="alexnet",
        help=f"{', '.join(EDGE_NETS)}, a classifier of torchvision by its name, timm/NAME, or "
        "FILE.py:FUNCTION (num_classes to a module)",
    )
    group.add_argument(
        "--edge_weights",
        metavar="FILE",
        help="start from these weights (.pth, .safetensors); a last layer of other classes is new",
    )
    group.add_argument(
        "--edge_size",
        type=number(int, 1),
        help="input side in px; depends on the net if not given",
    )
    finetune.add_scaling_flags(group, "edge")
    group.add_argument(
        "--pretrained",
        action=argparse.BooleanOptionalAction,
        help="start from ImageNet weights; by default only vit does",
    )
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs",
        type=number(int, 0),
        default=15,
        help="passes over train; 0, with --edge_only, keeps the weights of --edge_weights",
    )
    add_step_flags(group)
    group.add_argument(
        "--lr",
        type=number(float, 0, above=True),
        help="learning rate of the edge; 1e-3 if not given, 1.6e-3 with --joint, as in the release",
    )
    finetune.add_flags(group)
    group.add_argument(
        "--lr_rejector",
        type=number(float, 0, above=True),
        default=1.6e-3,
        help="learning rate of the rejectors",
    )
    group.add_argument(
        "--weight_decay", type=number(float, 0), default=0, help="weight decay of the edge net"
    )
    group.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        default="constant",
        help="all learning rates: constant as in the paper, or falling to 0 along a half cosine",
    )
    group.add_argument(
        "--augment",
        choices=data.AUGMENTATIONS,
        default="none",
        help="augmentation of the edge's images; the rejectors see the original images",
    )
    group.add_argument(
        "--progress_every",
        type=number(int, 0),
        metavar="BATCHES",
        help="batches between evaluations of every rejector on val, 0 for none; at the end of each "
        "epoch if not given",
    )
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--bf16",
        action="store_true",
        help="run the edge's forward passes in bfloat16; weights and rejectors stay float32",
    )
    group.add_argument(
        "--channels_last",
        action=argparse.BooleanOptionalAction,
        help="memory order of the edge's feature maps; if not given, used on a CPU for nets with "
        "depthwise convolutions",
    )
    group.add_argument("--compile", action="store_true", help="compile the edge with torch.compile")
    parser.add_common(seed=43, logs=True, saves=True)
    args = parser.parse_args(argv)
    if args.pretrained is None:
        args.pretrained = args.edge_net == "vit" and not args.edge_weights
    check_flags(parser, args, argv)
    finetune.check_flags(parser, args, parser.given(args, argv))
    finetune.check_scaling_flags(parser, args, "edge")
    check_stream_flags(parser, args, argv)
    if args.edge_weights and args.pretrained:
        parser.error("--edge_weights and --pretrained: both are weights to start from")
    if args.epochs == 0 and not (args.edge_only and (args.edge_weights or args.pretrained)):
        parser.error("--epochs 0 goes with --edge_only and --edge_weights or --pretrained")
    if args.lr is None:
        args.lr = 1.6e-3 if args.joint else 1e-3
    if args.seeds and args.local_path:
        parser.error(
            "--seeds: each run has its own local net in SAVE_DIR/seed-N; leave --local_path out"
        )
    return args
