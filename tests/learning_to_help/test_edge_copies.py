"""When copies of the edge are refreshed, and the bytes that this sends, against plain loops."""

import copy
import io

import pytest
import torch
from torch import nn

from learning_to_help.edge_copies import EdgeCopies, adaptive, answers, refresh, state_bytes

CLASSES, EPOCH, STEPS = 5, 8, 40  # EPOCH batches an epoch


def new_edge(classes=CLASSES):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes), nn.BatchNorm1d(classes))


def images(count, seed):
    return torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


PROBE = images(30, seed=1)


def trajectory(edge, steps=STEPS, size=0.2):
    """The edge after each of its steps: noise on its weights, another batch in its statistics."""
    generator = torch.Generator().manual_seed(2)
    for step in range(steps):
        with torch.no_grad():
            for p in edge.parameters():
                p.add_(size * torch.randn(p.shape, generator=generator))
        batch = images(6, seed=100 + step)
        edge.train()
        yield step, batch, edge(batch)


def start_epoch(copies, step):
    """Tell the copies of the batches of the epoch that `step` belongs to."""
    first = step - step % EPOCH
    every = torch.cat([images(6, seed=100 + s) for s in range(first, first + EPOCH)])
    copies.start_epoch(torch.arange(len(every)).split(6), lambda rows: every[rows])


def follow(copies, edge, steps=STEPS, size=0.2):
    """Train; yields (step, answers of every S, the edge's own) just after each batch."""
    for step, batch, logits in trajectory(edge, steps, size):
        if step % EPOCH == 0:
            start_epoch(copies, step)
        yield step, copies.answers(step % EPOCH, edge, logits, batch), answers(edge, batch)


def slow(freq, outages, probe_every, size=0.2):
    """For one S, the batches after whose edge step the copy was sent, and its answers at each."""
    edge, sent, known = new_edge(), [], []
    frozen, late = copy.deepcopy(edge), False
    for step, batch, _ in trajectory(edge, size=size):
        down = [step in range(start, end) for start, end in outages]
        if isinstance(freq, str):
            tolerance = float(freq.split("-")[1])
            changed = (answers(frozen, PROBE) != answers(edge, PROBE)).sum().item()
            due = step % probe_every == 0 and changed > tolerance * len(PROBE)
        else:
            last = step % EPOCH == EPOCH - 1
            due = last if freq == 0 else (step % EPOCH) % freq == 0
        if (due or late) and not any(down):
            frozen, late = copy.deepcopy(edge), False
            sent.append(step)
        elif due:
            late = True
        known.append(answers(frozen, batch))
    return sent, torch.stack(known)


MANY = (0, 2), (7, 9), (13, 14), (22, 33)


@pytest.mark.parametrize(("outages", "probe_every"), [((), 1), (((3, 10),), 3), (MANY, 1)])
def test_every_s_against_a_slow_loop(outages, probe_every):
    freqs = [1, 3, 100, 0, *map(adaptive, (0, 0.1, 0.3, 1))]
    edge = new_edge()
    copies = EdgeCopies(edge, freqs, outages, PROBE, probe_every)
    found = torch.stack([got for _, got, _ in follow(copies, edge)], dim=1)  # [S, STEPS, B]
    counts = set()
    for freq, got in zip(freqs, found, strict=True):
        sent, known = slow(freq, outages, probe_every)
        assert torch.equal(got, known), freq
        assert copies.refreshes[str(freq)] == len(sent) == len(set(sent)), freq
        counts.add(len(sent))
    assert len(counts) > 4  # the settings do differ


@pytest.mark.parametrize(
    ("outages", "probe_every", "at_once"),
    [((), 3, 100), (((3, 10),), 5, 36), (MANY, 1, 12), (MANY, 3, 100)],
)
def test_predictions_computed_ahead_equal_those_computed_in_time(outages, probe_every, at_once):
    """A copy predicts several batches at once, up to its next refresh and `images_ahead`."""
    freqs = [1, 2, 3, 100, 0, "joint", *map(adaptive, (0, 0.1, 0.3, 1))]
    batch_sizes = []

    def ask(net, batch):
        batch_sizes.append(len(batch))
        return answers(net, batch)

    edge, steps = new_edge(), STEPS
    copies = EdgeCopies(edge, freqs, outages, PROBE, probe_every, ask)
    plain = EdgeCopies(edge, freqs, outages, PROBE, probe_every)
    copies.images_ahead, plain.images_ahead = at_once, 1
    for step, batch, logits in trajectory(edge, steps):
        if step % EPOCH == 0:
            start_epoch(copies, step)
            start_epoch(plain, step)
        got = copies.answers(step % EPOCH, edge, logits, batch)
        assert torch.equal(got, plain.answers(step % EPOCH, edge, logits, batch)), step
    assert copies.sent(3) == plain.sent(3)
    assert max(n for n in batch_sizes if n != len(PROBE)) == min(at_once, 48) // 6 * 6
    if not outages and probe_every > 1:
        assert batch_sizes.count(6) < 4 * STEPS


def test_no_tolerance_sends_what_has_changed_and_full_tolerance_nothing():
    edge = new_edge()
    copies = EdgeCopies(edge, [adaptive(0), adaptive(1)], probe=PROBE, probe_every=1)
    known, first, expected = answers(edge, PROBE), copy.deepcopy(edge), 0
    for step, batch, _ in trajectory(edge, size=0.02):
        copies.answers(step, edge, edge(batch), batch)
        now = answers(edge, PROBE)
        if changed := bool((now != known).any()):
            known, expected = now, expected + 1
        assert copies.refreshes[adaptive(0)] == expected, (step, changed)
    assert 0 < expected < STEPS
    assert copies.refreshes[adaptive(1)] == copies.bytes_sent(adaptive(1)) == 0
    assert same(copies.copies[adaptive(1)], first)  # the initial edge to the end


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize(("changed", "sent"), [(3, 0), (4, 1)])
def test_just_the_tolerance_is_tolerated(changed, sent):
    """More than a share of 0.1: 3 of 30 images are not."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    nn.init.zeros_(net[1].weight)
    probe = torch.zeros(30, 3, 2, 2)
    probe[:changed] = 1
    copies = EdgeCopies(net, [adaptive(0.1)], probe=probe, probe_every=1)
    nn.init.ones_(net[1].weight[1])  # now these are of class 1, zeros still of class 0
    copies.answers(0, net, net(probe), probe)
    assert copies.refreshes[adaptive(0.1)] == sent


def test_an_outage_keeps_the_copy_and_its_end_brings_the_edge():
    edge = new_edge()
    copies = EdgeCopies(edge, [1, 3], [(5, 12)])
    for step, got, own in follow(copies, edge):
        if step == 4:
            before = copy.deepcopy(copies.copies)
        if 5 <= step < 12:
            assert all(same(copies.copies[s], before[s]) for s in (1, 3))
            assert not same(copies.copies[1], edge)
        if step == 12:
            assert same(copies.copies[1], edge)
            assert same(copies.copies[3], edge)  # batch 4 of the epoch: late, not due
        if step == 13:
            assert not same(copies.copies[3], edge)  # once
        if not 5 <= step < 12:
            assert torch.equal(got[0], own)
    assert copies.refreshes["1"] == STEPS - 7


def test_without_an_outage_synchronous_copies_equal_the_edge_net():
    edge = new_edge()
    copies = EdgeCopies(edge, [1, 4])
    assert set(copies.copies) == {4}
    for _, got, own in follow(copies, edge):
        assert torch.equal(got[0], own)
    assert copies.refreshes == {"1": STEPS, "4": STEPS // 4}


def test_evaluating_the_probe_does_not_change_the_edge_net():
    edge, other = new_edge(), new_edge()
    copies = EdgeCopies(edge, [adaptive(0)], probe=PROBE, probe_every=1)
    for _ in follow(copies, edge):
        assert edge.training
    for _ in trajectory(other):
        pass
    assert same(edge, other)


def test_bytes_are_exact():
    edge = new_edge()
    exact = 4 * (12 * CLASSES + CLASSES) + 4 * 4 * CLASSES + 8  # linear; batch norm; its counter
    assert state_bytes(edge) == exact
    copies = EdgeCopies(edge, [1, 4, 0, "joint"])
    assert state_bytes(edge.half()) == exact // 2 + 4  # the counter keeps its 8 bytes
    edge.float()
    for _ in follow(copies, edge):
        pass
    assert copies.bytes_sent(1) == STEPS * exact
    assert copies.bytes_sent(4) == STEPS // 4 * exact
    assert copies.bytes_sent(0) == STEPS // EPOCH * exact
    assert copies.bytes_sent("joint") == 0
    assert copies.sent(4) == {
        "refreshes": 10, "bytes_sent": 10 * exact, "outages": [],
    }  # fmt: skip


@pytest.mark.parametrize("stop", [0, 5, 9, 16, 23, 39])
def test_interrupted_anywhere_it_goes_on_the_same(stop):
    """The state, through a file, restores late refreshes, what is known, counts and copies."""
    freqs = [1, 3, 0, adaptive(0.1)]
    flags = ((4, 9), (14, 30)), PROBE, 2
    edge = new_edge()
    whole = EdgeCopies(edge, freqs, *flags)
    expected = [got for _, got, _ in follow(whole, edge)]

    edge = new_edge()
    first, file = EdgeCopies(edge, freqs, *flags), io.BytesIO()
    second = EdgeCopies(edge, freqs, *flags)
    refresh(second.copies[3], new_edge())
    for step, batch, logits in trajectory(edge):
        copies = first if step < stop else second
        if step == stop:
            torch.save(first.state(), file)
            file.seek(0)
            second.load(torch.load(file, weights_only=True))
        if step in (stop, step - step % EPOCH):
            start_epoch(copies, step)
        got = copies.answers(step % EPOCH, edge, logits, batch)
        assert torch.equal(got, expected[step]), step
    assert [second.sent(s) for s in freqs] == [whole.sent(s) for s in freqs]


def test_predictions_computed_ahead_are_kept_in_the_state():
    """In batches of other sizes they could round otherwise, so they are not computed again."""
    edge, asked = new_edge(), []

    def ask(net, batch):
        asked.append(len(batch))
        return answers(net, batch)

    every, logits = images(24, seed=5), torch.zeros(6, CLASSES)
    rows = torch.arange(24).split(6)
    copies = EdgeCopies(edge, [0], ask=ask)
    copies.start_epoch(rows, lambda index: every[index])
    copies.answers(0, edge, logits, every[:6])
    assert asked == [18]  # the batches up to the refresh at the last one
    resumed = EdgeCopies(new_edge(), [0], ask=ask)
    resumed.load(copies.state())
    resumed.start_epoch(rows, lambda index: every[index], first=1)
    again = [resumed.answers(i, edge, logits, every[rows[i]]) for i in (1, 2)]
    assert asked == [18]
    for i, classes in zip((1, 2), again, strict=True):
        assert torch.equal(classes[0], answers(copies.copies[0], every[rows[i]]))
