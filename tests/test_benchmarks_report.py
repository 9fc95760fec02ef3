"""What the report makes of its results: the README's section, pictures, rows to distrust, another revision."""

from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))  # `benchmarks` is not installed

from benchmarks import against, pictures, readme, report
from benchmarks.against import Change
from benchmarks.limits import Limit
from benchmarks.peers.workloads import WORKLOADS
from benchmarks.results import ROOT, Results, Row

CONVOLUTION = "conv-forward-mb128ic32ih26oc64oh24kh3"
NAMES = ("train-b1", "train-b128", CONVOLUTION, "small-convnet-to-99.25-in-4")
LIMIT = Limit(2, 200.0, 30.0, 20.0, {})


def row(workload: str, participant: str, seconds: float, **more: Any) -> Row:
    return Row(workload, participant, variant="way", samples=128, seconds=[seconds] * 3, **more)


def some_rows() -> list[Row]:
    flop = WORKLOADS[CONVOLUTION].flop * 128
    return [
        row("train-b1", "fastcnn", 128 * 3e-6),
        row(
            "train-b1",
            "torch",
            128 * 1.5e-4,
            versions={"torch": "2.13.0+cpu"},
            trials={"eager": 2.1e-4, "compiled": 1.5e-4, "another": "computes something else"},
        ),
        row("train-b1", "im2col", 128 * 3e-4),
        row("train-b1", "loops", 128 * 1.5e-2),
        row("train-b128", "fastcnn", 1e-4),
        Row("train-b128", "torch", reason="not installed: do this"),
        Row("train-b128", "loops", reason="has no way to do this work"),
        row(CONVOLUTION, "fastcnn", flop / 150e9),
        row(CONVOLUTION, "torch", flop / 100e9),
        Row(
            "small-convnet-to-99.25-in-4", "fastcnn", samples=60_000, seconds=[4.0, 4.0], accuracy=[0.993, 0.99, 0.993]
        ),
        Row("small-convnet-to-99.25-in-4", "torch", reason="reached 99.12%, not 99.25%", accuracy=[0.9912]),
    ]


def some_results(rows: list[Row] | None = None, **more: Any) -> Results:
    machine = {"processor": "A Processor", "cores": 2, "vector_bits": 256}
    workloads = [WORKLOADS[name].to_json() for name in NAMES]
    rows = some_rows() if rows is None else rows
    given = {"limits": [asdict(LIMIT)], **more}
    return Results(machine, {"fastcnn": "0"}, "abc", "2030-01-01T00:00", {"rounds": 3}, workloads, rows, **given)


def test_the_readme_shows_the_committed_results() -> None:
    """Run `python -m benchmarks.report --show FILE --write-readme` if this fails."""
    text = (ROOT / "README.md").read_text()
    path = readme.measured_file(text)
    results = Results.read(path)
    assert readme.section_of(text) == readme.section(results, path)
    for name, svg in pictures.draw(results).items():
        assert readme.picture_of(path, name).read_text() == svg


def test_a_section_has_every_figure_and_everybody(tmp_path: Path) -> None:
    text = readme.section(some_results(), tmp_path / "machine.json")
    assert "PyTorch 2.13.0" in text
    assert "| a step, batch size 1, one core | **3.00 µs** | 150 µs (50) | 300 µs (100) | 15.0 ms (5,000) |" in text
    assert "| an epoch, batch size 128, 2 cores | **0.0469 s** | not measured | not measured | not measured |" in text
    assert "forward | **150** (75%) | 100 (50%; 1.5) |" in text
    assert "1 convolutions, one by one: fastcnn is ahead of the fastest peer in 1, level in 0, behind in 0" in text
    assert "**4.00 s** (2 of 3 runs) | not reached: 99.12% |" in text
    assert "PyTorch: compiled 150 µs (50), eager 210 µs (70)." in text
    assert "PyTorch: not installed: do this (train-b128)" in text
    for name in ("ratios", "roofline", "ladder"):
        assert f"machine-{name}.svg)" in text


def test_a_section_says_how_often_its_rows_were_measured_not_how_often_the_last_were(tmp_path: Path) -> None:
    rows = [replace(one, commit="abc" if one.workload == "train-b1" else "def") for one in some_rows()]
    text = readme.section(some_results(rows), tmp_path / "machine.json")
    assert "Medians of 3 rounds on 2 cores" in text
    assert "(2030-01-01, the last at commit abc)" in text
    last = some_results(rows)
    last.protocol["rounds"] = 1
    assert readme.section(last, tmp_path / "machine.json") == text


def test_a_section_replaces_the_old_one_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, path = tmp_path / "README.md", tmp_path / "machine.json"
    monkeypatch.setattr(readme, "README", file)
    some_results().write(path)
    file.write_text("before\n<!-- measured old.json -->\nold\n<!-- /measured -->\nafter\n")
    assert report.main(["--show", str(path), "--write-readme"]) == 0
    text = file.read_text()
    assert text == f"before\n{readme.section(some_results(), path)}\nafter\n"
    assert (tmp_path / "machine-ladder.svg").read_text() == pictures.draw(some_results())["ladder"]
    file.write_text("nothing\n")
    with pytest.raises(ValueError, match="no section"):
        readme.write(path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.11885, "0.119"), (45.12, "45.1"), (898_123.0, "898,000"), (9.996, "10.0"), (4e-4, "0.000400")],
)
def test_three_digits_are_significant(value: float, text: str) -> None:
    assert readme.significant(value) == text


def test_pictures_are_xml_and_show_whom_they_compare() -> None:
    drawn = pictures.draw(some_results())
    assert set(drawn) == {"ratios", "roofline", "ladder"}
    for svg in drawn.values():
        ElementTree.fromstring(svg)
    assert "50 x PyTorch" in drawn["ratios"]
    assert "200 GFLOP/s in registers" in drawn["roofline"]
    assert "15,000 microseconds" in drawn["ladder"]
    assert "50 times as fast" in drawn["ladder"]


def test_pictures_need_what_they_show() -> None:
    assert set(pictures.draw(some_results(limits=[]))) == {"ratios", "ladder"}
    assert set(pictures.draw(some_results([row("train-b1", "torch", 1.0)]))) == set()


def test_a_scale_is_logarithmic() -> None:
    scale = pictures.Scale(1, 100, 0, 200)
    assert [scale(value) for value in (1, 10, 100)] == [0, 100, 200]
    assert scale.ticks() == [1, 2, 5, 10, 20, 50, 100]


def test_rows_that_vary_are_named_and_where_there_were_two_runs_those_that_disagree() -> None:
    rows = some_rows()
    rows[0].seconds = [3e-4, 3.84e-4, 4.5e-4]
    rows[4].seconds = [1e-4, 1e-4, 1.2e-4]
    once = some_results(rows)
    assert distrusted(once) == {("train-b1", "fastcnn"): "spread 39%", ("train-b128", "fastcnn"): "spread 20%"}
    text = readme.section(once, Path("machine.json"))
    assert "Within 15% the rounds agree on all but 2 of 8 figures" in text
    assert "\n- fastcnn: train-b1 (spread 39%), train-b128 (spread 20%)\n" in text
    earlier = [row("train-b1", "fastcnn", 128 * 3e-6), row("train-b1", "torch", 128 * 1.2e-4)]
    earlier += [row(CONVOLUTION, "fastcnn", 1.0), row(CONVOLUTION, "torch", 1.6)]
    twice = some_results(rows, earlier=earlier)
    assert distrusted(twice) == {
        ("train-b1", "torch"): "two runs are 25% apart",
        ("train-b128", "fastcnn"): "spread 20%",
    }


def distrusted(found: Results) -> dict[tuple[str, str], str]:
    return {(one.workload, one.participant): why for one, why in found.distrusted("fastcnn")}


def test_other_workloads_are_kept_when_some_are_measured_again() -> None:
    kept, new = some_results(), some_results([row("train-b1", "fastcnn", 1.0)])
    new.workloads = [WORKLOADS["train-b1"].to_json()]
    kept.add(new)
    assert [one["name"] for one in kept.workloads] == list(NAMES)
    assert [one.participant for one in kept.rows_of("train-b1")] == ["fastcnn"]
    assert len(kept.rows_of(CONVOLUTION)) == 2
    new.machine = {"processor": "another"}
    with pytest.raises(ValueError, match="choose another"):
        kept.add(new)


def test_measuring_again_holds_the_new_figures_against_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new = tmp_path / "machine.json", some_results([row("train-b1", "fastcnn", 128 * 4e-6)])
    new.workloads = [WORKLOADS["train-b1"].to_json()]
    some_results().write(path)

    def run(*given: Any) -> Results:
        new.earlier = given[-1]
        return new

    monkeypatch.setattr(report, "run", run)
    assert report.main(["--workloads", "train-b1", "--again", "--output", str(path)]) == 0
    found = Results.read(path)
    assert [one.participant for one in found.rows_of("train-b1")] == ["fastcnn"]
    assert [one.participant for one in found.earlier] == ["fastcnn", "torch", "im2col", "loops"]
    assert len(found.rows_of(CONVOLUTION)) == 2


def test_a_change_is_the_median_of_the_rounds() -> None:
    there = [{"a": 1.0, "b": 1.0, "gone": 1.0}, {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 1.0}]
    here = [{"a": 1.2, "b": 0.5, "new": 1.0}, {"a": 2.2, "b": 0.6}, {"a": 1.3, "b": 0.4}]
    slower, faster = against.changes(there, here)
    assert (slower.name, slower.ratio, slower.low, slower.high) == ("a", 1.2, 1.1, 1.3)
    assert (slower.verdict, faster.verdict) == ("slower", "faster")


def test_benchmarks_are_named_with_their_parameters() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(
        against.table([Change("benchmarks/test_kernels.py::test_operation[softmax-numba]", 1.0, 1.0, 1.0)], "r")
    )
    assert isinstance(console.file, io.StringIO)
    assert "test_kernels.py::test_operation[softmax-numba]" in console.file.getvalue()


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (Change("a", 1.04, 1.01, 1.06), "the same"),
        (Change("a", 1.2, 0.9, 1.3), "too noisy to tell"),
        (Change("a", 0.99, 0.97, 1.02), "the same"),
    ],
)
def test_a_verdict_needs_all_rounds(change: Change, verdict: str) -> None:
    assert change.verdict == verdict


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the history")
def test_another_revision_is_checked_out_with_these_benchmarks_and_removed() -> None:
    with against.checked_out("HEAD") as folder:
        assert (folder / "fastcnn" / "__init__.py").exists()
        assert (folder / "benchmarks" / "against.py").read_bytes() == Path(against.__file__).read_bytes()
        assert not (folder / "benchmarks" / ".peers").exists()
    assert not folder.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(folder) not in listed.stdout
    with pytest.raises(ValueError, match="no-such-revision"), against.checked_out("no-such-revision"):
        pass


def test_unknown_workloads_are_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        report.main(["--workloads", "nothing"])
    assert "workload 'nothing' is unknown" in capsys.readouterr().err.splitlines()[-1]
