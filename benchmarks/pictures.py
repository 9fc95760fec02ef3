"""The report's pictures as SVG, from a `Results` and nothing else: the same results, the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.peers.participants import OURS
from benchmarks.peers.shapes import ConvShape
from benchmarks.peers.workloads import Workload
from benchmarks.results import Results, Row, fastest_peer
from benchmarks.tables import TITLES as NAMES
from benchmarks.tables import number

#: Name -> what it shows.
TITLES = {
    "ratios": "How many times as fast as the fastest peer",
    "roofline": "Convolutions below this machine's roofline",
    "ladder": "A step of the tutorial's network: loops, im2col, Numba",
}

WIDTH, MARGIN, ROW = 860, 24, 22
OURS_COLOUR, PEER_COLOUR, INK, FAINT = "#0b7285", "#e8590c", "#212529", "#ced4da"


class Drawing:
    """Shapes on white, in pixels."""

    def __init__(self, height: float, title: str) -> None:
        self._height, self._parts = height, [f"<title>{escape(title)}</title>"]
        self._parts.append(f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>')
        self.text(MARGIN, 26, title, bold=True, size=15)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, bold: bool = False
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        self._parts.append(f'<text {place}{weight} fill="{INK}">{escape(words)}</text>')

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        size = f'width="{max(width, 0.5):.1f}" height="{height:.1f}"'
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>')

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.0) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x: float, y: float, colour: str, about: str) -> None:
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">'
        self._parts.append(f"{circle}<title>{escape(about)}</title></circle>")

    def __str__(self) -> str:
        size = f'width="{WIDTH}" height="{self._height:.0f}" viewBox="0 0 {WIDTH} {self._height:.0f}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
        return "\n".join([head, *self._parts, "</svg>", ""])


class Scale:
    """A logarithmic axis: values from `low` to `high` on pixels from `start` to `stop`."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self._low, self._span = math.log10(low), math.log10(high) - math.log10(low)
        self._start, self._stop, self._ends = start, stop, (low, high)

    def __call__(self, value: float) -> float:
        return self._start + (self._stop - self._start) * (math.log10(value) - self._low) / self._span

    def ticks(self) -> list[float]:
        """1, 2 and 5 times the powers of ten on the axis."""
        low, high = self._ends
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [v for v in (step * 10.0**power for power in powers for step in (1, 2, 5)) if low <= v <= high]


def draw(results: Results) -> dict[str, str]:
    """The pictures that these results are enough for, by name."""
    drawn = {"ratios": ratios(results), "roofline": roofline(results), "ladder": ladder(results)}
    return {name: str(drawing) for name, drawing in drawn.items() if drawing is not None}


def _pairs(results: Results) -> list[tuple[Workload, Row, Row]]:
    """Each workload with our row and the fastest peer's, where both were measured."""
    found = []
    for described in results.workloads:
        workload = Workload(**described)
        rows = results.rows_of(workload.name)
        ours = next((row for row in rows if row.participant == OURS.name and row.measured), None)
        peer = fastest_peer(rows, OURS.name)
        if ours and peer:
            found.append((workload, ours, peer))
    return found


def ratios(results: Results) -> Drawing | None:
    """A bar for each workload: to the right where we are faster, to the left where we are slower."""
    pairs = _pairs(results)
    if not pairs:
        return None
    values = [peer.seconds_per_sample / ours.seconds_per_sample for _, ours, peer in pairs]
    drawing = Drawing(70 + ROW * len(pairs), TITLES["ratios"])
    scale = Scale(min(0.5, *values), max(2.0, *values) * 1.1, 400, WIDTH - 150)
    bottom = 48 + ROW * len(pairs)
    for tick in scale.ticks():
        drawing.line([(scale(tick), 42), (scale(tick), bottom)], INK if tick == 1 else FAINT)
        drawing.text(scale(tick), bottom + 14, f"{tick:g}", anchor="middle", size=10)
    for place, ((workload, _, peer), value) in enumerate(zip(pairs, values, strict=True)):
        y = 46 + ROW * place
        left, right = sorted((scale(1), scale(value)))
        drawing.text(392, y + 13, workload.title, anchor="end", size=11)
        drawing.bar(left, y + 2, right - left, ROW - 6, OURS_COLOUR if value >= 1 else PEER_COLOUR)
        drawing.text(right + 5, y + 13, f"{value:.2g} x {NAMES[peer.participant]}", size=10)
    return drawing


def roofline(results: Results) -> Drawing | None:
    """GFLOP/s over operations a byte of memory traffic; the roof is what the machine was measured to reach."""
    pairs = [pair for pair in _pairs(results) if pair[0].convolves]
    limits = {limit["threads"]: limit for limit in results.limits}
    if not pairs or pairs[0][0].threads not in limits:
        return None
    limit = limits[pairs[0][0].threads]
    peak, bandwidth = limit["gflop_per_second"], limit["triad_gb_per_second"]
    points = []
    for workload, ours, peer in pairs:
        intensity = workload.flop / ConvShape.parse(workload.shape).bytes
        points += [
            (intensity, workload.figure(row.seconds_per_sample), row.participant, workload.title)
            for row in (ours, peer)
        ]
    drawing = Drawing(470, f"{TITLES['roofline']}, {limit['threads']} threads")
    across = Scale(min(x for x, *_ in points) / 2, max(x for x, *_ in points) * 2, 70, WIDTH - 30)
    up = Scale(min(y for _, y, *_ in points) / 1.5, max(peak, *(y for _, y, *_ in points)) * 1.3, 410, 50)
    for tick in across.ticks():
        drawing.line([(across(tick), 410), (across(tick), 50)], FAINT)
        drawing.text(across(tick), 425, f"{tick:g}", anchor="middle", size=10)
    for tick in up.ticks():
        drawing.line([(70, up(tick)), (WIDTH - 30, up(tick))], FAINT)
        drawing.text(64, up(tick) + 4, f"{tick:g}", anchor="end", size=10)
    corner, first = peak / bandwidth, min(x for x, *_ in points) / 2
    start = max(first, min(corner, up_low(points) / bandwidth))
    roof = [(across(start), up(start * bandwidth))] if start < corner else []
    drawing.line([*roof, (across(max(corner, first)), up(peak)), (WIDTH - 30, up(peak))], INK, 2)
    drawing.text(WIDTH - 34, up(peak) - 6, f"{peak:.0f} GFLOP/s in registers", anchor="end", size=11)
    for x, y, participant, title in points:
        colour = OURS_COLOUR if participant == OURS.name else PEER_COLOUR
        drawing.dot(across(x), up(y), colour, f"{NAMES[participant]}: {title}, {y:.0f} GFLOP/s")
    drawing.text(WIDTH / 2, 444, "operations a byte (each array once through memory)", anchor="middle", size=11)
    drawing.text(70, 42, "GFLOP/s", anchor="middle", size=11)
    drawing.dot(80, 458, OURS_COLOUR, "fastcnn")
    drawing.text(90, 462, "fastcnn", size=11)
    drawing.dot(160, 458, PEER_COLOUR, "the fastest peer")
    drawing.text(170, 462, f"the fastest peer; {bandwidth:.0f} GB/s of memory", size=11)
    return drawing


def up_low(points: Sequence[tuple[float, float, str, str]]) -> float:
    """The least value on the roofline's vertical axis."""
    return min(y for _, y, *_ in points) / 1.5


def ladder(results: Results) -> Drawing | None:
    """The three rungs on the same step: time, and how many times as fast as the rung before."""
    described = next((one for one in results.workloads if one["name"] == "train-b1"), None)
    if described is None:
        return None
    workload = Workload(**described)
    rows = {row.participant: row for row in results.rows_of(workload.name) if row.measured}
    rungs = [name for name in ("loops", "im2col", OURS.name) if name in rows]
    if len(rungs) < 3:
        return None
    names = {**NAMES, OURS.name: "fastcnn, Numba"}
    drawing = Drawing(60 + 34 * len(rungs), TITLES["ladder"])
    times = [workload.figure(rows[name].seconds_per_sample) for name in rungs]
    scale = Scale(min(times) / 3, max(times), 200, WIDTH - 290)
    for place, (name, time) in enumerate(zip(rungs, times, strict=True)):
        y = 44 + 34 * place
        faster = f", {times[place - 1] / time:,.0f} times as fast" if place else ""
        drawing.text(192, y + 17, names[name], anchor="end")
        drawing.bar(200, y, scale(time) - 200, 24, OURS_COLOUR if name == OURS.name else FAINT)
        drawing.text(scale(time) + 6, y + 17, f"{number(time)} microseconds{faster}")
    return drawing
