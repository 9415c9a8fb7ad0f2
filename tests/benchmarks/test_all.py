"""benchmarks/all.sh makes every file that the tables of docs/speed.md are made of."""

from tests.shell import ROOT, bash


def test_each_published_measurement_is_repeated_under_its_name(tmp_path):
    done = bash("benchmarks/all.sh", "cpu", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    commands = [line.split() for line in done.stdout.splitlines()]
    written = {words[-1].rpartition("/")[2]: words[1] for words in commands}
    published = {path.name for path in ROOT.glob("results/published/benchmarks/*.json")}
    assert published <= set(written)
    assert all(
        ROOT.joinpath(*name.split(".")).with_suffix(".py").exists() for name in written.values()
    )


def test_complete_measurements_are_kept(tmp_path):
    (tmp_path / "sweep-cpu.json").write_text("{}")
    done = bash("benchmarks/all.sh", "cpu", tmp_path)
    assert "benchmarks.sweep " not in done.stdout
    assert "benchmarks.amortized " in done.stdout
