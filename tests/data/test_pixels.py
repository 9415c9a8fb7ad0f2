"""Images that stay on the host give the batches of images on the device, to the last bit."""

import contextlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import data.batches
from data import Batches, Part
from data.augment import flip_crop
from data.pixels import OnDevice, OnHost


def make_part(count, channels=3):
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, 9, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Part(images, labels, torch.arange(count))


@pytest.fixture(params=[1, 2000, 2**20], ids=lambda values: f"chunk of {values}")
def chunk_values(request, monkeypatch):
    """One batch a chunk, a few, and all of them."""
    monkeypatch.setattr(data.batches, "CHUNK_VALUES", request.param)


@pytest.mark.usefixtures("chunk_values")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"shuffle": True, "seed": 5},
        {"shuffle": True, "augment": flip_crop, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)},
        {"shuffle": True, "augment": flip_crop, "rank": 1, "world": 3},
    ],
    ids=["in order", "shuffled", "augmented", "shared"],
)
def test_same_batches_from_the_host(how, channels):
    part = make_part(50, channels)  # the last batch has 2
    held, kept = (Batches(part, 4, "cpu", resident=r, **how) for r in (True, False))
    assert (held.resident, kept.resident) == (True, False)
    for epoch in (0, 3):
        pairs = list(zip(held.epoch(epoch), kept.epoch(epoch), strict=True))
        assert len(pairs) == 13
        assert all(torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True))
        assert torch.equal(held.order(epoch), kept.order(epoch))
    rows = torch.tensor([3, 49, 3, 0])
    assert torch.equal(held.plain(rows), kept.plain(rows))
    assert kept.plain(kept.order(1)).shape == (50, 3, 9, 8)


def test_order_is_that_of_the_batches():
    batches = Batches(make_part(41), 4, "cpu", shuffle=True, seed=2)
    order = batches.order(6)
    assert len(order) == 40  # the lone last one is dropped
    assert torch.equal(order, torch.cat([index for index, _, _ in batches.epoch(6)]))
    plain = torch.cat([images for _, images, _ in batches.epoch(6)])
    assert torch.equal(batches.plain(order), plain)


def test_images_kept_from_before_are_not_written_over():
    """What came through the host is the caller's: no buffer of it is used again."""
    pixels = OnHost(make_part(30).images, torch.device("cpu"))
    chunks = list(pixels.chunks(torch.arange(30), 7))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 7, 2]
    assert torch.equal(torch.cat(chunks), make_part(30).images)


def test_a_chunk_is_on_its_way_while_the_one_before_is_in_use(monkeypatch):
    sent, arrived = [], []
    pixels = OnHost(make_part(10).images, torch.device("cpu"))
    send, receive = pixels._send, pixels._arrived
    monkeypatch.setattr(pixels, "_send", lambda rows: (sent.append(rows.tolist()), send(rows))[1])
    monkeypatch.setattr(pixels, "_arrived", lambda x: (arrived.append(len(sent)), receive(x))[1])
    ahead = [len(sent) for _ in pixels.chunks(torch.arange(10).flip(0), 4)]
    assert sent == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
    # The device waits for all that was sent: so not for the copy that is to overlap its work.
    assert arrived == [1, 2, 3]
    assert ahead == [2, 3, 3]


class PretendedStream:
    """What a CUDA stream is asked for; notes who waited for whom."""

    def __init__(self, device, waits):
        self.waits = waits

    def wait_stream(self, other):
        self.waits.append((self, other))


@pytest.fixture
def pretended_gpu(monkeypatch):
    """A GPU that computes nothing: its free memory is what the test sets; returns (set, waits)."""
    waits, free = [], [0]
    working = PretendedStream(None, waits)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 10 * free[0]))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: PretendedStream(device, waits))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: working)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, stream: None)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield lambda size: free.__setitem__(0, size), waits


@pytest.mark.parametrize(("spare", "resident"), [(0, True), (-2, False)])
def test_images_go_to_the_device_where_they_take_half_of_what_is_free(
    pretended_gpu, spare, resident
):
    set_free, waits = pretended_gpu
    part = make_part(50)
    set_free(2 * part.images.nbytes + spare)
    batches = Batches(part, 4, "cuda", shuffle=True, augment=flip_crop if resident else None)
    assert batches.resident is resident
    assert type(batches._pixels) is (OnDevice if resident else OnHost)
    assert batches.labels.device.type == "cuda"
    if not resident:
        for index, images, labels in batches.epoch(0):
            assert {x.device.type for x in (index, images, labels)} == {"cuda"}
        assert len(waits) == 1  # one chunk
        assert waits[0][1] is batches._pixels.stream
        assert batches.plain(batches.order(0)).device.type == "cuda"
    assert Batches(part, 4, "cuda", resident=not resident).resident is not resident


def test_other_devices_are_not_asked(monkeypatch):
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    assert Batches(make_part(4), 2, "cpu").resident


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_same_from_both(monkeypatch):
    monkeypatch.setattr(data.batches, "CHUNK_VALUES", 5000)
    part = make_part(2000)
    how = {"shuffle": True, "augment": flip_crop}
    held, kept = (Batches(part, 16, "cuda", resident=r, **how) for r in (True, False))
    for epoch in range(3):
        for one, two in zip(held.epoch(epoch), kept.epoch(epoch), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
