"""The benchmarks' own machinery: the protocol, who is shown as not measured, what the results file holds."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))  # `benchmarks` is not installed

from benchmarks import comparing, report, results, rounds, tables
from benchmarks.peers import problem, protocol
from benchmarks.peers.engines import in_batches, loops, way_and_batch
from benchmarks.peers.participants import OURS, PEERS, Participant
from benchmarks.peers.protocol import PeerError, Worker
from benchmarks.peers.shapes import OURS as OURS_SHAPES
from benchmarks.peers.worker import Server
from benchmarks.peers.workloads import WORKLOADS, Workload

STEP, EPOCH, INFERENCE = (WORKLOADS[name] for name in ("train-b1", "train-b128", "predict-10000"))
CONVOLUTION, RACE = WORKLOADS[f"conv-forward-{OURS_SHAPES[0]}"], WORKLOADS["small-convnet-to-99.25-in-4"]
PLAN = rounds.Plan(rounds=3, seconds=1.0, settle=0.0)


class FakeSide:
    """A library whose weights move by `step` a run, and whose run takes `seconds`."""

    def __init__(self, name: str, seconds: float, step: float = 1.0, log: list[str] | None = None) -> None:
        self.versions = {name: "1.0"}
        self._name, self._seconds, self._step, self._log = name, seconds, step, log

    def variants(self, workload: Workload) -> list[str]:
        return ["slow", "quick"]

    def prepare(self, workload: Workload, variant: str, samples: int) -> None:
        self._weight, self._factor = 0.0, {"slow": 3.0, "quick": 1.0}.get(variant, 1.0)

    def run(self, times: int = 1) -> float:
        self._weight += self._step
        if self._log is not None:
            self._log.append(self._name)
        return self._seconds * self._factor

    def restart(self, seed: int) -> None:
        self._weight = 0.0

    def outcome(self) -> dict[str, Any]:
        return {"weights": [[self._weight, 2 * self._weight]]}


def judge(workload: Workload, outcome: Any) -> float:
    """Every epoch of a FakeSide whose step is 1 makes it better by 0.3%."""
    return 0.984 + 0.003 * float(outcome["weights"][0][0])


def measured(
    sides: dict[str, FakeSide],
    missing: str = "not installed: do this",
    workload: Workload = STEP,
    judge: rounds.Judge = judge,
    earlier: Sequence[results.Row] = (),
) -> dict[str, results.Row]:
    def begin(participant: Participant, workload: Workload, stack: ExitStack, caches: Path | None = None) -> FakeSide:
        if participant.name not in sides:
            raise PeerError(missing)
        return sides[participant.name]

    asked, others = [PEERS["torch"], PEERS["jax"]], [PEERS["keras"]]
    rows = comparing.measure(workload, asked, others, PLAN, begin, judge, earlier=earlier)
    assert [row.participant for row in rows] == ["fastcnn", "torch", "jax", "keras"]
    return {row.participant: row for row in rows}


def some_results(rows: list[results.Row]) -> results.Results:
    machine = {"processor": "A (TM) Processor", "cores": 2}
    return results.Results(machine, {"fastcnn": "0"}, None, "2030-01-01", {"rounds": 3}, [STEP.to_json()], rows)


def shown(rows: list[results.Row]) -> str:
    console = Console(file=io.StringIO(), width=200)
    tables.show(some_results(rows), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_message_is_one_line_and_comes_back() -> None:
    message = {"do": "run", "text": "two\nlines", "number": 1.5}
    line = protocol.encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert protocol.decode(line) == message


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "ended"),
        (b"Downloading...\n", "expected a line of JSON"),
        (b"[1]\n", "expected a line of JSON"),
        (b'{"ok": false, "error": "no such thing"}\n', "no such thing"),
        (b'{"seconds": 1.0}\n', "neither"),
    ],
)
def test_what_is_no_answer_is_an_error(line: bytes, problem: str) -> None:
    with pytest.raises(PeerError, match=problem):
        protocol.answer_of(line)


def test_a_server_answers_errors_in_one_line() -> None:
    server = Server(loops.Engine(1))
    for request in ({"do": "dance"}, {"do": "run", "times": 1}, {"do": "load", "path": "missing.npz"}, {}):
        answer = server.answer(request)
        assert answer["ok"] is False
        assert "\n" not in answer["error"]


def test_a_worker_process_trains_by_the_loops(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    start = problem.make(images, np.arange(6), images[:2])
    start.save(tmp_path / "problem.npz")
    with Worker(Path(sys.executable), "loops", 1) as worker:
        assert set(worker.versions) == {"numpy", "python"}
        with pytest.raises(PeerError, match="no problem is loaded"):
            worker.prepare(STEP, "patch by patch", 1)
        worker.load(tmp_path / "problem.npz")
        worker.prepare(STEP, "patch by patch", 2)
        assert worker.run() > 0
        found = worker.outcome()
    task = loops.Engine(1).task(STEP, "patch by patch", 2, start)
    task.run()
    for name, array in task.outcome().items():
        np.testing.assert_array_equal(np.array(found[name]), array)
        assert np.abs(array - getattr(start, name)).max() > 0


def test_a_worker_that_cannot_start_says_why() -> None:
    with pytest.raises(PeerError, match="No module named"):
        Worker(Path(sys.executable), "no_such_engine", 1)


def test_rounds_interleave_and_the_quickest_right_variant_is_used() -> None:
    log: list[str] = []
    names = {"fastcnn": 1.0, "torch": 2.0, "jax": 4.0}
    rows = measured({name: FakeSide(name, seconds, log=log) for name, seconds in names.items()})
    assert log[-9:] == ["fastcnn", "torch", "jax", "torch", "jax", "fastcnn", "jax", "fastcnn", "torch"]
    for name, seconds in names.items():
        assert rows[name].variant == "quick"
        assert rows[name].seconds == [seconds] * PLAN.rounds
        assert rows[name].trials["slow"] == 3 * rows[name].trials["quick"]
    assert (rows["fastcnn"].difference, rows["torch"].difference) == (None, 0.0)


def test_a_second_run_takes_the_first_ones_choice() -> None:
    log: list[str] = []
    sides = {"fastcnn": FakeSide("fastcnn", 1.0, log=log)}
    first = measured(sides)
    log.clear()
    second = measured(sides, earlier=list(first.values()))
    assert log == ["fastcnn"] * (1 + PLAN.rounds)
    assert second["fastcnn"] == first["fastcnn"]


def test_who_is_missing_or_wrong_is_shown_with_the_reason() -> None:
    rows = measured({"fastcnn": FakeSide("fastcnn", 1.0), "torch": FakeSide("torch", 0.1, step=1.01)})
    assert not any(rows[name].measured for name in ("torch", "jax", "keras"))
    assert "another network" in str(rows["torch"].reason)
    assert rows["jax"].reason == "not installed: do this"
    assert rows["keras"].reason == comparing.NOT_ASKED
    lines = shown(list(rows.values())).splitlines()
    for name, reason in (("PyTorch", "another network"), ("JAX", "not installed"), ("Keras", comparing.NOT_ASKED)):
        (line,) = (line for line in lines if name in line)
        assert "not measured" in line
        assert reason in line


def test_a_race_ends_with_the_first_epoch_that_is_good_enough() -> None:
    sides = {"fastcnn": FakeSide("fastcnn", 1.0), "torch": FakeSide("torch", 2.0, step=1.0005)}
    rows = measured(sides, workload=RACE)
    assert rows["fastcnn"].seconds == [3.0] * rounds.RACE_ROUNDS
    assert rows["torch"].seconds == [6.0] * rounds.RACE_ROUNDS
    assert rows["fastcnn"].accuracy == pytest.approx([0.993] * rounds.RACE_ROUNDS)


def test_who_never_gets_there_says_how_far_it_got() -> None:
    row = measured({"fastcnn": FakeSide("fastcnn", 1.0)}, workload=RACE, judge=lambda *found: 0.9912)["fastcnn"]
    assert not row.measured
    assert row.reason == "reached 99.12%, not 99.25%"
    assert row.accuracy == [0.9912] * rounds.RACE_ROUNDS


def test_a_race_is_one_training_for_all_its_targets() -> None:
    row = measured({"fastcnn": FakeSide("fastcnn", 1.0)}, workload=RACE)["fastcnn"]
    assert [seconds for seconds, _ in row.epochs[0]] == [1.0, 2.0, 3.0]
    easier = row.of_target("small-convnet-to-99.00-in-4", 0.99)
    assert (easier.workload, easier.seconds) == ("small-convnet-to-99.00-in-4", [2.0] * rounds.RACE_ROUNDS)
    assert (row.workload, row.seconds) == (RACE.name, [3.0] * rounds.RACE_ROUNDS)
    one, other = (WORKLOADS[f"keras-convnet-to-{target}-in-12"] for target in ("99.00", "99.25"))
    assert one.training == other.training != RACE.training


def test_what_was_trained_is_judged_and_nothing_else() -> None:
    assert measured({"fastcnn": FakeSide("fastcnn", 1e9)})["fastcnn"].accuracy
    assert not measured({"fastcnn": FakeSide("fastcnn", 1e9)}, workload=INFERENCE)["fastcnn"].accuracy


@pytest.mark.parametrize("name", ["start-first", "start-again"])
def test_a_start_is_a_fresh_process_in_its_plain_form(name: str) -> None:
    begun: list[tuple[str, Path | None]] = []
    sides = {"fastcnn": FakeSide("fastcnn", 1.0), "torch": FakeSide("torch", 1.0)}

    def begin(participant: Participant, workload: Workload, stack: ExitStack, caches: Path | None = None) -> FakeSide:
        begun.append((participant.name, caches))
        return sides[participant.name]

    rows = comparing.measure(WORKLOADS[name], [PEERS["torch"]], [], PLAN, begin, judge)
    assert [row.variant for row in rows] == ["slow", "slow"]
    assert [len(row.seconds) for row in rows] == [PLAN.rounds] * 2
    assert begun[:2] == [("fastcnn", None), ("torch", None)]
    folders = [folder for participant, folder in begun[2:] if participant == "fastcnn"]
    assert len(folders) == (PLAN.rounds + 1 if WORKLOADS[name].cached else PLAN.rounds)
    assert len(set(folders)) == (1 if WORKLOADS[name].cached else PLAN.rounds)


def test_a_convolution_counts_against_its_own_size() -> None:
    ours, theirs = FakeSide("fastcnn", 1.0, step=100.0), FakeSide("torch", 1.0, step=100.005)
    assert comparing.difference(theirs, "quick", ours, CONVOLUTION, "first") == pytest.approx(5e-5)
    with pytest.raises(PeerError, match="something else"):
        comparing.difference(FakeSide("torch", 1.0, step=100.02), "quick", ours, CONVOLUTION, "first")


def test_a_difference_counts_against_how_far_the_weights_moved() -> None:
    ours, theirs = FakeSide("fastcnn", 1.0, step=1e-5), FakeSide("torch", 1.0, step=1.1e-5)
    with pytest.raises(PeerError, match=r"2\.0e-06 away"):
        comparing.difference(theirs, "quick", ours, STEP, "first")
    still = FakeSide("torch", 1.0, step=0.0)
    with pytest.raises(PeerError, match="another network"):
        comparing.difference(still, "quick", ours, STEP, "first")


def test_an_environment_without_its_stamp_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.participants.ENVIRONMENTS", tmp_path)
    for name in ("torch", "jax", "keras"):
        peer = PEERS[name]
        assert f"install {name}" in str(peer.missing())
        peer.folder.mkdir()
        (peer.folder / "installed.txt").write_text("torch==0.1\n")
        assert "other versions" in str(peer.missing())
        (peer.folder / "installed.txt").write_text(peer.requirements.read_text())
        assert peer.missing() is None
    assert OURS.missing() is None


def test_requirements_are_pinned() -> None:
    for peer in PEERS.values():
        if peer.installed_apart:
            assert all("==" in line for line in peer.requirements.read_text().splitlines())


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        results.Row("train-b1", "fastcnn", None, "fit", {"fit": 3e-6}, None, 100, 2, [3e-4, 3e-4, 4e-4], {"a": "1"}),
        results.Row("train-b1", "jax", reason="not installed"),
    ]
    written, path = some_results(rows), tmp_path / "deep" / "machine.json"
    written.write(path)
    assert results.Results.read(path) == written
    assert [file.name for file in path.parent.iterdir()] == ["machine.json"]
    content = json.loads(path.read_text())
    names = {"schema", "machine", "versions", "commit", "date", "protocol", "workloads", "peers", "limits", "earlier"}
    assert set(content) == names
    assert content["peers"][0]["seconds"] == [3e-4, 3e-4, 4e-4]
    path.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(ValueError, match="99"):
        results.Results.read(path)


def test_the_file_is_named_after_the_machine() -> None:
    assert results.file_of({"processor": "A (TM) Processor/3", "cores": 2}).name == "a-tm-processor-3-2-cores.json"


def test_the_table_names_the_fastest_peer_and_who_is_noisy() -> None:
    rows = [
        results.Row("train-b1", "fastcnn", variant="fit", samples=100, seconds=[3e-4, 3e-4, 4e-4]),
        results.Row("train-b1", "torch", variant="eager", samples=10, seconds=[2e-3, 2e-3, 2e-3]),
        results.Row("train-b1", "jax", variant="scan", samples=10, seconds=[6e-4, 6e-4, 6e-4]),
    ]
    text = shown(rows)
    assert "JAX (fastest peer)" in text
    assert "20.0 x as fast" in text
    assert "66.7 x as fast" in text
    assert text.splitlines()[-1].endswith("train-b1 fastcnn (spread 33%).")
    assert "Too noisy" in text


def test_show_reads_a_file_and_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "machine.json"
    some_results([results.Row("train-b1", "jax", reason="not installed")]).write(path)
    assert report.main(["--show", str(path)]) == 0
    assert "not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("workload", "affordable", "samples"),
    [(STEP, 0.2, 1), (STEP, 1e9, 60_000), (EPOCH, 1, 128), (EPOCH, 300, 256), (EPOCH, 1e9, 60_000), (INFERENCE, 7, 7)],
)
def test_runs_are_cut_to_whole_batches(workload: Workload, affordable: float, samples: int) -> None:
    assert comparing.samples_of(workload, affordable) == samples


def test_figures_are_in_the_workloads_unit() -> None:
    assert STEP.figure(3e-6) == pytest.approx(3.0)
    assert EPOCH.figure(2e-6) == pytest.approx(0.12)
    assert INFERENCE.figure(1e-6) == pytest.approx(1e6)


def test_batch_sizes_of_inference_go_into_the_variant_and_out_again() -> None:
    variants = in_batches(["eager", "eager, channels last"], INFERENCE, (100, 1000))
    assert variants[-1] == "eager, channels last, 1000 at a time"
    assert way_and_batch(variants[-1], INFERENCE) == ("eager, channels last", 1000)
    assert in_batches(["eager"], STEP, (100,)) == ["eager"]
    assert way_and_batch("eager", STEP) == ("eager", 1)
