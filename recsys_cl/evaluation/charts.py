"""Small charts as inline SVG: comes in as numbers, goes out as text for a page; no script, no request.

Colors are the page's CSS variables, so that a chart follows light and dark. Every text is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 440, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 38


@dataclass(frozen=True)
class Point:
    """A value with its interval; low and high are None where it has none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Axis:
    """Numbers from low to high onto pixels from start to stop, by their logarithm where log; ticks at whole numbers
    alone where whole."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        scale: Callable[[float], float] = math.log10 if self.log else float
        share = (scale(value) - scale(self.low)) / ((scale(self.high) - scale(self.low)) or 1.0)
        return self.start + share * (self.stop - self.start)

    def list_ticks(self) -> list[float]:
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if self.high < 100 * self.low else (1,)
            ticks = [factor * 10.0**power for power in powers for factor in factors]
            inside = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(inside) >= 2:  # or there are none to read between
                return inside
        step = _choose_step(self.high - self.low)
        step = max(step, 1.0) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def draw_line(points: Sequence[tuple[float, float]], labels: tuple[str, str], color: int = 0, log: bool = False) -> str:
    """As `draw_lines`, one line."""
    return draw_lines({color: points}, labels, log)


def draw_lines(lines: Mapping[int, Sequence[tuple[float, float]]], labels: tuple[str, str], log: bool = False) -> str:
    """Lines through (x, y) by their color, each of at least one point, x whole; labels of the axes; log: both axes, all
    numbers positive.

    At most 400 points of a line are drawn, evenly spaced on the axis; each has a dot where they are few.
    """
    xs, ys = ([point[axis] for points in lines.values() for point in points] for axis in (0, 1))
    low, high = min(ys), max(ys)
    pad = 0.0 if log else (0.08 * (high - low) or 0.5 * abs(high) or 1.0)
    across = _Axis(min(xs), max(xs), _LEFT, WIDTH - _RIGHT, log, whole=True)
    up = _Axis(low - pad, high + pad, HEIGHT - _BOTTOM, _TOP, log)
    marks = []
    for color, points in lines.items():
        placed = _thin([(across.place(x), up.place(y)) for x, y in points])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        marks.append(f'<polyline points="{path}" class="line c{color}"/>')
        if len(points) <= 60:
            marks += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" class="fill c{color}"/>' for x, y in placed]
    return _frame(HEIGHT, f"{labels[1]} by {labels[0]}", [*_draw_grid(across, up), *marks, *_draw_labels(labels)])


def draw_intervals(groups: Sequence[tuple[str, Sequence[Point]]], names: Sequence[str]) -> str:
    """For each group a line a series, with a dot at the value and a bar over the interval; names of the series."""
    height = 40 + sum(16 * len(points) + 20 for _, points in groups)
    ends = [end for _, points in groups for p in points for end in (p.value, p.low, p.high) if end is not None]
    across = _Axis(0.0, max([*ends, 1e-9]) * 1.05, 88, WIDTH - _RIGHT)
    bottom = height - 24
    marks = [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{bottom}" class="grid"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" class="tick middle">{_show_tick(tick)}</text>'
        for tick in across.list_ticks()
        for x in [across.place(tick)]
    ]
    y = 18.0
    for label, points in groups:
        middle = y + 8 * (len(points) - 1) + 4
        marks.append(f'<text x="80" y="{middle:.1f}" class="label end">{html.escape(label)}</text>')
        for color, (name, point) in enumerate(zip(names, points, strict=True)):
            marks.append(_draw_interval(across, y, point, color, f"{label}, {name}: {point.value:.4f}"))
            y += 16
        y += 20
    return _frame(height, "Metrics with their intervals", marks)


def _draw_interval(across: _Axis, y: float, point: Point, color: int, title: str) -> str:
    x = across.place(point.value)
    bar = ""
    if point.low is not None and point.high is not None:
        low, high = across.place(point.low), across.place(point.high)
        bar = f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="bar c{color}"/>'
    stem = f'<line x1="{across.start}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="stem c{color}"/>'
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="fill c{color}"/>'
    return f"<g><title>{html.escape(title)}</title>{stem}{bar}{dot}</g>"


def _draw_grid(across: _Axis, up: _Axis) -> list[str]:
    marks = []
    for tick in up.list_ticks():
        y = up.place(tick)
        marks.append(f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        marks.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="tick end">{_show_tick(tick)}</text>')
    for tick in across.list_ticks():
        x = across.place(tick)
        marks.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" class="tick middle">{_show_tick(tick)}</text>')
    return marks


def _draw_labels(labels: tuple[str, str]) -> list[str]:
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    return [f'<text x="{middle:.0f}" y="{HEIGHT - 4}" class="label middle">{html.escape(labels[0])}</text>']


def _frame(height: int, label: str, marks: Sequence[str]) -> str:
    name = html.escape(label)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">{"".join(marks)}</svg>'


def _thin(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most one point a step of the x axis, the last one always."""
    if len(points) <= most:
        return points
    steps = {round(x * most / WIDTH): (x, y) for x, y in points[:-1]}
    return [*steps.values(), points[-1]]


def _choose_step(span: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that gives two to six ticks."""
    rough = (span or 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if rough <= factor * power * (1 + 1e-9))


def _show_tick(value: float) -> str:
    """All digits but those of rounding, so that no two ticks are shown alike."""
    return f"{value / 1_000_000:.10g} M" if value >= 1_000_000 else f"{value:,.10g}"
