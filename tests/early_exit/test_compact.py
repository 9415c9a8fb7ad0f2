"""Real early exit: the decisions of all exits' logits on paper, and nothing computed for nobody."""

import numpy as np
import pytest
import torch

from deferral import exits
from deferral.rules import max_softmax_doubt
from early_exit.inference import Inference, LastExit, early_exit_logits
from losses.early_exit import boosted_logits
from models.cost import exit_multiply_adds, multiply_adds
from tests.early_exit.toy import ARCHS, Toy, make_net, slow_logits, slow_stop

INF = np.inf


def on_paper(net, images, thresholds, t):
    """Stops and answers from the logits of all exits."""
    with torch.no_grad():
        logits = boosted_logits(net(images), t)
    stop = exits.stops(exits.confidence(logits.numpy()), thresholds)
    return stop, logits[torch.from_numpy(stop), torch.arange(len(images))]


@pytest.mark.parametrize("t", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(2))
def test_decisions_and_answers_are_those_on_paper(t, seed):
    net = Toy(seed=seed).eval()
    images = torch.randn(200, 3, 2, 2)
    sure = exits.confidence(slow_logits(net, torch.randn(100, 3, 2, 2), t).numpy())
    for thresholds in exits.fit_thresholds(sure, exits.shares([0.3, 0.8, 1.0, 1.7], 4)):
        stop, logits = early_exit_logits(net, images, thresholds, t)
        paper, answers = on_paper(net, images, thresholds, t)
        assert stop.dtype == torch.int64
        assert stop.tolist() == paper.tolist()
        assert len(set(paper)) > 2
        torch.testing.assert_close(logits, answers)
        slow = slow_stop(exits.confidence(slow_logits(net, images, t).numpy()), thresholds)
        assert stop.tolist() == slow.tolist()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("t", [0.0, 0.5])
def test_every_network_can_be_compacted(arch, t):
    net = make_net(arch)
    images = torch.randn(24, 3, 32, 32)
    with torch.no_grad():
        sure = exits.confidence(boosted_logits(net(images), t).numpy())
    # Thresholds between two samples: batches of another size round otherwise.
    ordered = np.sort(sure[:-1])
    thresholds = np.append((ordered[:, 12] + ordered[:, 13]) / 2, -INF)
    stop, logits = early_exit_logits(net, images, thresholds, t)
    paper, answers = on_paper(net, images, thresholds, t)
    assert stop.tolist() == paper.tolist()
    assert len(set(paper)) > 1
    torch.testing.assert_close(logits, answers, rtol=1e-4, atol=1e-4)


def test_a_block_gets_only_samples_that_have_not_left():
    net = Toy().eval()
    thresholds = [-0.1, -0.2, -0.1, -INF]
    stop, _ = early_exit_logits(net, torch.randn(100, 3, 2, 2), thresholds)
    left = [int((stop >= k).sum()) for k in range(4)]
    assert net.seen == [[n] for n in left]
    assert left[0] > left[1] > left[2] > left[3] > 0


def test_all_leave_at_the_first_exit_and_no_later_block_is_called():
    net = Toy().eval()
    stop, logits = early_exit_logits(net, torch.randn(10, 3, 2, 2), [-1.0, -0.1, -0.1, -INF], 0.5)
    assert stop.tolist() == [0] * 10
    assert net.seen == [[10], [], [], []]
    assert logits.shape == (10, 5)


@pytest.mark.parametrize("last", [-INF, INF, -0.001])
def test_the_last_exit_takes_what_is_left(last):
    stop, logits = early_exit_logits(Toy(), torch.randn(10, 3, 2, 2), [INF, -0.2, INF, last])
    assert set(stop.tolist()) <= {1, 3}
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("t", [0.0, 0.5])
def test_batches_of_one(t):
    net, images = Toy().eval(), torch.randn(30, 3, 2, 2)
    thresholds = np.array([-0.1, -0.2, -0.1, -INF])
    one = [early_exit_logits(net, x[None], thresholds, t) for x in images]
    stop, logits = early_exit_logits(net, images, thresholds, t)
    assert torch.cat([s for s, _ in one]).tolist() == stop.tolist()
    torch.testing.assert_close(torch.cat([x for _, x in one]), logits)


class Fixed(Toy):
    """Logits that are the image's first five values, whatever the exit."""

    def head(self, k, state):
        return state[1][0].flatten(1)[:, :5]


def test_a_confidence_equal_to_the_threshold_leaves():
    images = torch.randn(50, 3, 2, 2)
    sure = -max_softmax_doubt(images.flatten(1)[:, :5].numpy())
    # An ulp less or more than the rounding of two libraries' exp.
    for step, leaves in ((-1e-15, True), (1e-15, False)):
        for row in range(50):
            thresholds = [sure[row] + step, INF, INF, -INF]
            stop, _ = early_exit_logits(Fixed(), images[row : row + 1], thresholds)
            assert (stop.item() == 0) == leaves
    even = torch.zeros(1, 3, 2, 2)
    assert early_exit_logits(Fixed(), even, [-4 / 5, INF, INF, -INF])[0].item() == 0


@pytest.mark.parametrize("digits", [8, 20, 100])
def test_confidences_close_to_one_are_distinguished(digits):
    """1 - 1e-8 and 1 - 1e-9 are both 1 in float32, 1 - 1e-20 is in float64."""
    images = torch.zeros(2, 3, 2, 2)
    images[:, 0, 0, 0] = np.log(10) * torch.tensor([digits, digits + 1]) + np.log(4)
    stop, _ = early_exit_logits(Fixed(), images, [-3 * 0.1 ** (digits + 1), INF, INF, -INF])
    assert stop.tolist() == [3, 0]


def test_samples_with_nan_logits_go_to_the_last_exit():
    images = torch.full((1, 3, 2, 2), torch.nan)
    assert early_exit_logits(Fixed(), images, [-1.0, -1.0, -1.0, -INF])[0].item() == 3


def test_a_threshold_an_exit():
    with pytest.raises(ValueError, match="3 thresholds for 4 exits"):
        early_exit_logits(Toy(), torch.randn(2, 3, 2, 2), [0.5, 0.5, -INF])


@pytest.mark.parametrize("how", [{}, {"bf16": True}, {"channels_last": True}])
def test_inference_answers_in_float32_as_asked(how):
    net, images = make_net(), torch.randn(6, 3, 32, 32)
    inference = Inference(net, torch.device("cpu"), 0.5, **how)
    plain = slow_logits(make_net(), images, 0.5)
    with inference.ready():
        every, (_, early) = inference.exits(images), inference.early(images, [INF, INF, -INF])
    assert every.dtype == early.dtype == torch.float32
    near = {"rtol": 0.1, "atol": 0.3} if "bf16" in how else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(every, plain, **near)
    torch.testing.assert_close(early, plain[-1], **near)
    assert ((every - plain).abs().max() > 1e-3) == ("bf16" in how)
    order = torch.channels_last if "channels_last" in how else torch.contiguous_format
    assert net.blocks[0][1].layers[0].conv_normal.net[3].weight.is_contiguous(memory_format=order)


def test_the_last_exit_alone_answers_the_same_and_costs_less():
    net, images = make_net(), torch.randn(3, 3, 32, 32)
    inference = Inference(net, torch.device("cpu"))
    with inference.ready():
        torch.testing.assert_close(inference.last(images), inference.exits(images)[-1])
    first, _, full = exit_multiply_adds(net, images[:1])
    assert first < multiply_adds(LastExit(net), images[:1]) < full
