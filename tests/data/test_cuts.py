"""Classes by number, and images of some classes only."""

import torch

from data import Part, keep_classes, parse_classes
from tests.made import one_line_error


def test_parse_classes():
    for text, classes in {
        "0-8": [0, 1, 2, 3, 4, 5, 6, 7, 8],
        "0,2,5-7": [0, 2, 5, 6, 7],
        " 3 , 1-1 ": [1, 3],
        "5,1-3,2-5,1": [1, 2, 3, 4, 5],
    }.items():
        assert parse_classes(text, 10) == classes
    for text, telling in {
        "": "'' is no class",
        "8-3": "8-3 is empty: write 3-8",
        "10": "no class 10: use 0 to 9",
        "0-99999999999": "no class 99999999999",
        "-1": "'-1' is no class",
        "1,": "'' is no class",
        "1-2-3": "'1-2-3' is no class",
        "1.5": "'1.5' is no class",
        "1\n2": "is no class",
        "²": "'²' is no class",
    }.items():
        with one_line_error(f"classes {text!r}", telling):
            parse_classes(text, 10)


def part_of(labels):
    count = len(labels)
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    return Part(images, torch.tensor(labels), 100 + torch.arange(count))


def test_keep_classes():
    kept = keep_classes(part_of([0, 1, 2, 3, 2, 0]), [2, 0, 7])
    assert kept.labels.tolist() == [0, 2, 2, 0]
    assert kept.images.flatten().tolist() == [0, 2, 4, 5]
    assert kept.index.tolist() == [100, 102, 104, 105]

    for classes in ([], [7, 8], [1, 7]):  # fewer than two are there
        with one_line_error(f"keeping classes {classes}", "two or more of [0, 1, 2]"):
            keep_classes(part_of([0, 1, 2, 1]), classes)
