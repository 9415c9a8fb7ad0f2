"""Seconds of an epoch of early_exit.train on texts: batches in random order, and of like length.

  python -m benchmarks.text_batches
  python -m benchmarks.text_batches --lengths /data/glue/SST-2 --model_path /data/minilm

Times whole training steps of `base` with an exit after each layer, on the same texts in both
orders: 50 batches, the window within which --group_by_length sorts. Without --lengths the texts
have lengths drawn from a log-normal distribution with the mean of SST-2's training texts, 13.3
tokens, and at most their 66. Without --model_path the network has MiniLM's shape and random
weights. The two ways take turns, so that other load on the machine slows both alike.
"""

import statistics
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch

import experiment
from benchmarks.points import about, add_common, seconds
from data.text.glue import load_glue
from data.text.tokens import WINDOW, TokenBatches, TokenPart, encode
from data.text.wordpiece import read_tokenizer
from early_exit import train
from early_exit.flags import arch_settings, make_method
from experiment.parallel import Workers
from models.bert_folder import read_folder
from models.exit_nets import EXIT_NETS

MINILM = {"num_layers": 6, "hidden_dim": 384, "num_heads": 12, "mlp_dim": 1536, "vocab_size": 30522}


def drawn_lengths(count: int) -> np.ndarray:
    """Tokens of `count` texts, [count]: mean 13.3, 3 to 66, as SST-2's with MiniLM's tokenizer."""
    words = np.random.default_rng(0).lognormal(2.13, 0.76, count)
    return np.clip(np.round(words) + 2, 3, 66).astype(int)


def lengths_of(task: str, model_path: str, count: int) -> np.ndarray:
    """Tokens of the first training texts of a GLUE task's folder."""
    texts = encode(load_glue(task, "", None, 0.1, 0), read_tokenizer(model_path), 128)
    return (texts.train.tokens[:count, 0] != 0).sum(1).numpy()


def random_texts(lengths: np.ndarray, vocab_size: int) -> TokenPart:
    """Random tokens in texts of these lengths, and random labels of two classes."""
    rng, n = np.random.default_rng(1), len(lengths)
    tokens = np.zeros((n, 2, lengths.max()), np.int32)
    tokens[:, 0] = rng.integers(1, vocab_size, (n, lengths.max()))
    tokens[:, 0] *= np.arange(lengths.max()) < lengths[:, None]
    labels = torch.from_numpy(rng.integers(0, 2, n))
    return TokenPart(torch.from_numpy(tokens), labels, torch.arange(n))


def main(argv=None):
    parser = experiment.Parser(__doc__)
    add_common(parser, rounds=3)
    parser.add_argument("--batch_size", type=int, default=32, help="texts per step")
    parser.add_argument("--lengths", help="folder of a GLUE task whose lengths texts have")
    parser.add_argument("--model_path", help="folder of a BERT, for its shape and tokenizer")
    args = parser.parse_args(argv)
    if args.lengths and not args.model_path:
        parser.error("--lengths needs the tokenizer of --model_path")
    device = experiment.pick_device(args.device)
    shape = read_folder(args.model_path)[0] if args.model_path else MINILM
    count = WINDOW * args.batch_size
    lengths = (
        lengths_of(args.lengths, args.model_path, count) if args.lengths else drawn_lengths(count)
    )
    exits = "-".join(str(k + 1) for k in range(shape["num_layers"]))
    flags = train.parse_args(["--arch", "bert", "--optimizer", "adamw", "--exits", exits])
    arch, size = EXIT_NETS["bert"], int(lengths.max())
    net = arch.from_settings(arch_settings(flags, arch) | shape, 2, size).to(device).train()
    trainer = make_method(flags, net, size, device, Workers())
    trainer.set_lr(1e-5)
    part = random_texts(lengths, shape["vocab_size"])
    ways = {
        name: TokenBatches(part, args.batch_size, device, shuffle=True, group_by_length=grouped)
        for name, grouped in (("random order", False), ("of like length", True))
    }

    def steps(batches, most=WINDOW):
        for _, tokens, labels in islice(batches.epoch(1), most):
            trainer.step(tokens, labels, len(labels))

    times = {name: [] for name in ways}
    for batches in ways.values():
        steps(batches, 2)
    for _, (name, batches) in product(range(args.rounds), ways.items()):
        times[name].append(1e3 * seconds(lambda b=batches: steps(b), device) / WINDOW)
    first = times["random order"]
    result = {
        name: {
            "ms_per_step": statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(first, values, strict=True)),
            "padded_tokens": sum(t[:, 0].numel() for _, t, _ in ways[name].epoch(1)) / len(lengths),
        }
        for name, values in times.items()
    }
    print(f"{experiment.hardware(device)}, {len(lengths)} texts of {lengths.mean():.1f} tokens")
    for name, row in result.items():
        print(
            f"{name:16} {row['padded_tokens']:6.1f} tokens a text with padding  "
            f"{row['ms_per_step']:8.1f} ms a step  {row['ratio']:5.2f} times as fast"
        )
    if args.out:
        sizes = {"batch_size": args.batch_size, "mean_length": float(lengths.mean())}
        experiment.write_json(Path(args.out), about(device, **sizes, ways=result, ms=times))


if __name__ == "__main__":
    main()
