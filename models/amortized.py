"""One rejector for all costs: estimates of P(m right | x) and P(e right | x).

With both estimates the Bayes rule of learning to help (Wu et al., ICLR 2025) decides for any costs:
REMOTE iff 1 - P(m right | x) > c_e + c_1 (1 - P(e right | x)).

It has two parts. A *student* predicts the edge's class probabilities (distilled from the edge,
since K probabilities an image teach more than one bit, right or wrong) and whether each net is
right. A *combiner*, a logistic regression on the outputs of the student and the local net, turns
them into the two estimates. It is fitted on images that neither net was trained on, where both err
as often as on new images.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.depthwise import DepthwiseNet
from models.localnet import LeNet5

INPUTS = ("features", "image", "both")
# Students on the image alone, by outputs: at 10 classes, with the combiner, no more than a third of
# LeNet-5's multiply-adds and no more than LeNet-5's. A new one is a line here.
STUDENTS: dict[str, Callable[[int], nn.Module]] = {
    "small": partial(DepthwiseNet, stem=8, blocks=((16, 2), (32, 1), (60, 2), (60, 1))),
    "large": partial(DepthwiseNet, stem=10, blocks=((24, 1), (48, 2), (48, 1), (92, 2), (92, 1))),
}
REJECTOR_NETS = ("lenet5", *STUDENTS)
LARGEST_INDEXED = 100  # classes; with more, the combiner gets sorted probabilities only
LOWEST = -20.0  # log-probabilities are clamped to it, since a linear layer follows
TOP = 5  # highest log-probabilities among the inputs of the combiner


class AmortizedRejector(nn.Module):
    """Logits [B, 2] of P(m right | x) and P(e right | x).

    input: `features`, what the local net has computed anyway (num_features values) and its logits;
    `image`, a network of its own on the image, as the paper's rejector, and nothing of m; `both`.
    net: the network on the image. `lenet5` shares a layer with the features if the input is `both`;
    a net of STUDENTS never sees them: the combiner alone joins its answer with the local net's.
    """

    mean: Tensor  # of the features, and std: buffers, unless the input is `image`
    std: Tensor

    def __init__(
        self,
        input: str,
        num_classes: int,
        num_features: int,
        hidden: int = 256,
        net: str = "lenet5",
    ):
        super().__init__()
        for kind, value, known in (("input", input, INPUTS), ("net", net, REJECTOR_NETS)):
            if value not in known:
                raise ValueError(
                    f"rejector {kind} {value!r} is unknown; there are {', '.join(known)}"
                )
        if input == "features" and net != "lenet5":
            raise ValueError(f"rejector net {net!r} needs the image: input image or both")
        self.input, self.net, self.num_classes = input, net, num_classes
        self.num_features, self.hidden = num_features, hidden
        # Whether the student sees the image and nothing else.
        self.on_image = input == "image" or net in STUDENTS
        seen = 0
        if input != "features":
            outputs = num_classes + 2 if self.on_image else hidden
            self.image_net = STUDENTS.get(net, LeNet5)(outputs)
            seen += 0 if self.on_image else hidden
        if not self.on_image:
            seen += num_features
            self.register_buffer("mean", torch.zeros(num_features))
            self.register_buffer("std", torch.ones(num_features))
            self.head = nn.Sequential(
                nn.Linear(seen, hidden),
                nn.ReLU(),
                nn.Dropout(0.4),
                nn.Linear(hidden, num_classes + 2),
            )
        width = self.describe(*(torch.zeros(1, k) for k in (num_classes + 2, num_classes)))
        self.combiner = nn.Linear(width.shape[1], 2)

    def student(self, images: Tensor | None, features: Tensor | None) -> Tensor:
        """Guessed logits of the edge, then of m and of e being right: [B, K + 2].

        images [B, 3, H, W] unless the input is `features`; features [B, D] unless `on_image`.
        """
        if self.on_image:
            return self.image_net(images)
        if features is None:
            raise ValueError(f"rejector input {self.input!r} needs the local net's features")
        x = (features - self.mean) / self.std
        if self.input == "both":
            x = torch.cat([F.relu(self.image_net(images)), x], 1)
        return self.head(x)

    def describe(self, student: Tensor, local_logits: Tensor) -> Tensor:
        """Inputs of the combiner: student [B, K + 2] and local_logits [B, K] to [B, F]."""
        guess, right = student[:, : self.num_classes], student[:, self.num_classes :]
        seen = [right, *_answer(guess)]
        if self.input != "image":
            seen += [*_answer(local_logits), *_agreement(guess, local_logits)]
        return torch.cat(seen, 1)

    def forward(
        self, images: Tensor | None, local_logits: Tensor, features: Tensor | None
    ) -> Tensor:
        """Logits [B, 2] of both estimates; what the input does not use may be None."""
        return self.combiner(self.describe(self.student(images, features), local_logits))


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).clamp_min(LOWEST)


def _answer(logits: Tensor) -> list[Tensor]:
    """Features of a classifier's logits [B, K]: [B, *] each."""
    log_p = _log_softmax(logits)
    p = log_p.exp()
    top = log_p.topk(min(TOP, logits.shape[-1]), -1).values
    seen = [top, -(p * log_p).sum(-1, keepdim=True), p.amax(-1, keepdim=True)]
    if logits.shape[-1] <= LARGEST_INDEXED:
        seen += [log_p, F.one_hot(logits.argmax(-1), logits.shape[-1]).to(log_p.dtype)]
    return seen


def _agreement(guess: Tensor, local_logits: Tensor) -> list[Tensor]:
    """How the guessed edge and the local net agree: [B, 1] each."""
    log_p, own = _log_softmax(guess), _log_softmax(local_logits).exp()
    answer = local_logits.argmax(-1, keepdim=True)
    of_answer = log_p.gather(-1, answer)
    return [
        of_answer,
        of_answer.exp(),
        log_p.amax(-1, keepdim=True) - of_answer,
        (log_p.exp() * own).sum(-1, keepdim=True),
        (log_p.argmax(-1, keepdim=True) == answer).to(log_p.dtype),
    ]
