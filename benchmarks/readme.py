"""The README's measured section and pictures, from a results file and nothing else.

The section stands between ``<!-- measured FILE -->``, which names the file, and ``<!-- /measured -->``. A test makes it
anew from that file and expects the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import pictures
from benchmarks.comparing import NO_SUCH
from benchmarks.peers.participants import OURS, PEERS
from benchmarks.peers.workloads import WORKLOADS, Workload
from benchmarks.results import NOISY, ROOT, Results, Row, fastest_peer
from benchmarks.tables import TITLES, share_of_peak

README = ROOT / "README.md"
_SECTION = re.compile(r"<!-- measured (?P<file>\S+) -->\n.*?<!-- /measured -->", re.DOTALL)

#: The library whose version stands for the participant.
_LIBRARIES = {"torch": ("torch",), "jax": ("jax",), "keras": ("keras", "tensorflow")}

_DIRECTIONS = {"conv-forward": "forward", "conv-input": "input gradient", "conv-filter": "filter gradient"}


def write(path: Path) -> None:
    """Put the figures of a results file into README.md, and its pictures beside it.

    Raises:
        ValueError: README.md has no measured section.
    """
    found = Results.read(path)
    for name, svg in pictures.draw(found).items():
        picture_of(path, name).write_text(svg)
    text = README.read_text()
    if not _SECTION.search(text):
        raise ValueError(f"{README.name} has no section that begins with <!-- measured FILE -->")
    README.write_text(_SECTION.sub(lambda match: section(found, path), text))


def measured_file(readme: str) -> Path:
    """The results file that a README names."""
    match = _SECTION.search(readme)
    if match is None:
        raise ValueError("there is no section that begins with <!-- measured FILE -->")
    return ROOT / match["file"]


def section_of(readme: str) -> str:
    """The measured section as it stands in a README, with its markers."""
    match = _SECTION.search(readme)
    return match[0] if match else ""


def picture_of(path: Path, name: str) -> Path:
    """Where a picture of a results file goes."""
    return path.with_name(f"{path.stem}-{name}.svg")


def section(results: Results, path: Path) -> str:
    """The whole section with its markers."""
    file = _relative(path)
    workloads = [Workload(**described) for described in results.workloads]
    convolutions = [one for one in workloads if one.convolves]
    networks = [one for one in workloads if not one.convolves and one.kind != "reach"]
    races = [one for one in workloads if one.kind == "reach"]
    parts = [f"<!-- measured {file} -->", _introduction(results)]
    if networks:
        parts.append(_table(results, networks, "", with_cores=True))
    if races:
        parts.append("Training until that share of the test images is classified correctly, tested after every epoch:")
        parts.append(_table(results, races, "", with_cores=False))
    if convolutions:
        parts += [
            f"<details><summary>{_balance(results, convolutions)}</summary>",
            _about_convolutions(results),
            _table(results, convolutions, "convolution", with_cores=False),
            "</details>",
        ]
    for name, title in pictures.TITLES.items():
        if name in pictures.draw(results):
            parts.append(f"![{title}]({_relative(picture_of(path, name))})")
    parts += [_forms(results), _absent(results), _distrust(results), "<!-- /measured -->"]
    return "\n\n".join(part for part in parts if part)


def _relative(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _introduction(results: Results) -> str:
    machine = results.machine
    libraries = [f"{_name(name)} {_version(results, name)}" for name in _LIBRARIES if _version(results, name)]
    vectors = f", {machine['vector_bits']}-bit vectors" if "vector_bits" in machine else ""
    place = f"{machine['cores']} cores of {machine['processor']}{vectors}"
    last = "" if len({row.commit for row in results.peers if row.measured}) < 2 else "the last at "
    when = f"{results.date[:10]}, {last}commit {results.commit or 'unknown'}"
    races = {workload["name"] for workload in results.workloads if workload["kind"] == "reach"}
    counts = {len(row.seconds) for row in results.peers if row.measured and row.workload not in races}
    rounds = " to ".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else "no"
    return (
        f"Medians of {rounds} rounds on {place} ({when}), everyone in the same run and each in the quickest of "
        f"several forms: {', '.join(libraries)}. In brackets, how many times as fast fastcnn is; bold, the fastest."
    )


def _version(results: Results, participant: str) -> str:
    versions = next((row.versions for row in results.peers if row.participant == participant and row.versions), {})
    found = [versions[library].partition("+")[0] for library in _LIBRARIES[participant] if library in versions]
    return " / ".join(found)


def _name(participant: str) -> str:
    return "fastcnn" if participant == OURS.name else TITLES.get(participant, participant)


def _balance(results: Results, workloads: Sequence[Workload]) -> str:
    """In how many of them fastcnn is ahead of the fastest peer; a ratio that is shown as 1.0 is neither."""
    ratios = []
    for one in workloads:
        ours, peer = _find(results, one, OURS.name), fastest_peer(results.rows_of(one.name), OURS.name)
        if ours is not None and ours.measured and peer is not None:
            ratios.append(float(significant(peer.seconds_per_sample / ours.seconds_per_sample, 2)))
    ahead, level = sum(ratio > 1 for ratio in ratios), ratios.count(1.0)
    behind = len(ratios) - ahead - level
    return (
        f"{len(workloads)} convolutions, one by one: fastcnn is ahead of the fastest peer in {ahead}, "
        f"level in {level}, behind in {behind}"
    )


def _about_convolutions(results: Results) -> str:
    text = "Convolutions in GFLOP/s, by benchdnn's descriptors"
    peak = results.peak(2)
    if peak is None:
        return f"{text}:"
    share = f"in per cent, the share of the {peak:,.0f} GFLOP/s that two cores reach in registers"
    return f"{text}; {share} (above 100%: Winograd's filtering multiplies less than is counted):"


def _table(results: Results, workloads: Sequence[Workload], head: str, *, with_cores: bool) -> str:
    """A line for each workload, a column for whoever could do at least one of them."""
    names = [OURS.name, *PEERS]
    columns = [name for name in names if any(_can(_find(results, one, name)) for one in workloads)]
    lines = [f"| {head} | {' | '.join(_name(name) for name in columns)} |", f"|---{'|---' * len(columns)}|"]
    for one in workloads:
        cells = [_cell(results, one, name) for name in columns]
        lines.append(f"| {_row_title(one, with_cores)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _can(row: Row | None) -> bool:
    return row is not None and row.reason != NO_SUCH


def _find(results: Results, workload: Workload, participant: str) -> Row | None:
    return next((row for row in results.rows_of(workload.name) if row.participant == participant), None)


def _row_title(workload: Workload, with_cores: bool) -> str:
    if workload.convolves:
        return f"`{workload.shape}` {_DIRECTIONS[workload.kind]}"
    if not with_cores:
        return workload.title
    unit = ": images a second" if workload.unit == "images/s" else ""
    return f"{workload.title}, {'one core' if workload.threads == 1 else f'{workload.threads} cores'}{unit}"


def _cell(results: Results, workload: Workload, participant: str) -> str:
    row, ours = _find(results, workload, participant), _find(results, workload, OURS.name)
    if row is None or not row.measured:
        return f"not reached: {max(row.accuracy):.2%}" if row is not None and row.tried else "not measured"
    text = figure(workload, row)
    notes = []
    share = share_of_peak(workload, row, results.peak(workload.threads))
    if workload.convolves and share is not None:
        notes.append(f"{share:.0%}")
    if row is not ours and ours is not None and ours.measured:
        notes.append(significant(row.seconds_per_sample / ours.seconds_per_sample, 2))
    if workload.kind == "reach":
        notes.append(f"{len(row.seconds)} of {len(row.accuracy)} runs")
    if row.seconds_per_sample == min(one.seconds_per_sample for one in results.rows_of(workload.name) if one.measured):
        text = f"**{text}**"
    return f"{text} ({'; '.join(notes)})" if notes else text


def figure(workload: Workload, row: Row) -> str:
    """A row's figure with its unit."""
    value = workload.figure(row.seconds_per_sample)
    if workload.unit == "us":
        return f"{significant(value)} µs" if value < 1000 else f"{significant(value / 1000)} ms"
    return f"{significant(value)} s" if workload.unit == "s" else significant(value)


def significant(value: float, digits: int = 3) -> str:
    """A number rounded to so many significant digits: 0.119, 45.1, 898,000."""
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{rounded:e}".partition("e")[2])
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def _forms(results: Results) -> str:
    """What each form of a step at batch size one took in its trial: how much the table owes to the best of them."""
    step = WORKLOADS["train-b1"]
    ours = _find(results, step, OURS.name)
    found = []
    for row in results.rows_of(step.name):
        times = {form: time for form, time in row.trials.items() if isinstance(time, float)}
        if row is ours or ours is None or not ours.measured or len(times) < 2:
            continue
        forms = [
            f"{form} {significant(step.figure(time))} µs ({significant(time / ours.seconds_per_sample, 2)})"
            for form, time in sorted(times.items(), key=lambda one: one[1])
        ]
        found.append(f"{_name(row.participant)}: {', '.join(forms)}")
    return f"A step at batch size 1 in the forms that were tried, in short trials. {'. '.join(found)}." if found else ""


def _absent(results: Results) -> str:
    """Whoever appears nowhere above, or not everywhere."""
    reasons: dict[str, list[str]] = {}
    for row in results.peers:
        if not row.measured and row.reason and not row.tried:
            reasons.setdefault(f"{_name(row.participant)}: {row.reason}", []).append(row.workload)
    if not reasons:
        return ""
    parts = [f"{reason} ({_some(names)})" for reason, names in reasons.items()]
    return f"Not measured: {'; '.join(parts)}."


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} rows"


def _distrust(results: Results) -> str:
    """Which rows another run could contradict; folded up, because on a shared machine they are many."""
    found = results.distrusted(OURS.name)
    measured = sum(row.measured for row in results.peers)
    apart = "two runs agree on" if results.earlier else "the rounds agree on"
    if not found:
        return f"Within {NOISY:.0%} {apart} all {measured} figures."
    by_participant: dict[str, list[str]] = {}
    for row, why in found:
        by_participant.setdefault(_name(row.participant), []).append(f"{row.workload} ({why})")
    rows = [f"- {participant}: {', '.join(named)}" for participant, named in by_participant.items()]
    head = f"Within {NOISY:.0%} {apart} all but {len(found)} of {measured} figures; these are not to be trusted"
    return "\n".join([f"<details><summary>{head}</summary>", "", *rows, "", "</details>"])
