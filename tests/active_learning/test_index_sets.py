"""Index sets of every round: disjoint, complete, descending from each other, and refused if not."""

import numpy as np
import pytest

from active_learning import index_sets
from active_learning.index_sets import Place
from tests.made import one_line_error


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path, "digits", "DIAM", 2, "fingerprint", 3)


def two_rounds(place, size=50, count=10):
    first = index_sets.initial(place, size, count)
    first.save(place.path(0))
    second = index_sets.grown(place, first, np.array([4, 0, 7]), flags={"batch_size": 3})
    second.save(place.path(1))
    return first, second


def test_rounds_are_disjoint_complete_and_grow_by_what_was_queried(place):
    first, second = two_rounds(place)
    for made, path in ((first, place.path(0)), (second, place.path(1))):
        assert set(made.labelled) | set(made.unlabelled) == set(range(50))
        assert len(made.labelled) + len(made.unlabelled) == 50
        found = index_sets.load(place, made.about["round"], 50)
        for a, b in zip(found[:3], made[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        assert found.about == made.about
        assert path.exists()
    assert second.queried.tolist() == first.unlabelled[[4, 0, 7]].tolist()  # the order of choice
    assert set(second.labelled) == set(first.labelled) | set(second.queried)


def test_round_0_depends_on_the_seed_only(place):
    first = index_sets.initial(place, 50, 10)
    other = index_sets.initial(place._replace(method="random", model_num=12), 50, 10)
    assert first.digest == other.digest
    assert place.path(0) == place._replace(method="random", model_num=12).path(0)
    assert first.digest != index_sets.initial(place._replace(seed=4), 50, 10).digest
    assert place.path(1) != place._replace(method="random").path(1)
    assert place.path(1) != place._replace(model_num=12).path(1)


@pytest.mark.parametrize("count", [0, 50, 51])
def test_an_impossible_size_of_round_0_is_refused(place, count):
    with pytest.raises(ValueError, match=f"--initial_size {count}: the pool has 50"):
        index_sets.initial(place, 50, count)


def spoilt(place, round_, **changes):
    """Rewrite a round's file with other arrays, or without those that are None."""
    with np.load(place.path(round_)) as file:
        arrays = dict(file) | changes
    np.savez(place.path(round_), **{k: v for k, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "telling"),
    [
        ({"labelled": np.arange(13)}, "do not cover"),
        ({"unlabelled": np.arange(37)}, "do not cover"),
        ({"queried": np.array([49, 48, 47])}, "were queried that are not labelled"),
        ({"labelled": np.arange(13.0)}, "rows must be int64"),
        ({"about": np.array("{")}, "not an index set"),
        ({"about": np.array("[]")}, "its dataset is None"),
        ({"queried": None}, "not an index set"),
    ],
)
def test_a_spoilt_file_is_refused(place, changes, telling):
    _, second = two_rounds(place)
    if "queried" in changes and changes["queried"] is not None:
        changes = {"queried": second.unlabelled[:3]}
    spoilt(place, 1, **changes)
    with one_line_error(telling, str(place.path(1))):
        index_sets.load(place, 1, 50)


def test_what_is_not_there_or_cut_short_is_refused(place):
    with pytest.raises(ValueError, match=r"no labels of round 1 here; .*al_select --al_iter 1"):
        index_sets.load(place, 1, 50)
    two_rounds(place)
    place.path(1).write_bytes(place.path(1).read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        index_sets.load(place, 1, 50)


def test_a_round_of_other_data_seed_or_labels_is_refused(place):
    two_rounds(place)
    with pytest.raises(ValueError, match="made from other data or another val split"):
        index_sets.load(place._replace(data="other"), 1, 50)
    with pytest.raises(ValueError, match="its seed is 3, not 5"):
        index_sets.load(place._replace(seed=5), 1, 50)
    with pytest.raises(ValueError, match=r"do not cover 0\.\.59"):
        index_sets.load(place, 1, 60)
    index_sets.initial(place._replace(seed=3), 50, 11).save(place.path(0))
    with pytest.raises(ValueError, match="grew from other labels"):
        index_sets.load(place, 1, 50)
