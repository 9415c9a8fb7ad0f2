"""The made-up task: labels are what its words say, and the same seed writes the same files."""

from data.text.glue import load_glue
from data.text.made_task import BLAME, PRAISE, main
from tests.made import quiet


def says(text):
    """Praise against blame, read word by word."""
    total, turned = 0, False
    for word in text.split():
        if word in PRAISE + BLAME:
            total += (1 if word in PRAISE else -1) * (-1 if turned else 1)
        turned = word == "not"
    return int(total > 0)


def test_labels_are_what_the_words_say(tmp_path):
    quiet(main, tmp_path / "SST-2", "--train", 300, "--dev", 100)
    task = load_glue(str(tmp_path / "SST-2"), val_size=50)
    for part in (task.train, task.val, task.test):
        assert [says(text) for text in part.first] == part.labels.tolist()
        assert 0.35 < part.labels.float().mean() < 0.65
    assert len(task.test.labels) == 100
    assert any("not " in text for text in task.test.first)
    quiet(main, tmp_path / "again" / "SST-2", "--train", 300, "--dev", 100)
    for name in ("train.tsv", "dev.tsv"):
        ours, again = (tmp_path / sub / "SST-2" / name for sub in (".", "again"))
        assert ours.read_bytes() == again.read_bytes()


def test_what_is_there_is_kept(tmp_path, refused):
    folder = tmp_path / "SST-2"
    quiet(main, folder, "--train", 10, "--dev", 5)
    before = (folder / "train.tsv").read_bytes()
    refused(main, folder, "--train", 20, telling="a task is here; --overwrite replaces it")
    refused(main, folder, "--train", 0, telling="--train")
    assert (folder / "train.tsv").read_bytes() == before
    quiet(main, folder, "--train", 20, "--dev", 5, "--overwrite")
    assert len((folder / "train.tsv").read_text().splitlines()) == 21
