"""Charts as a reader sees them: what is read off the axes is what was given, whatever things are called."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.evaluation.charts import HEIGHT, WIDTH, Point, draw_intervals, draw_line

LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 14, 12, HEIGHT - 38  # of the field that a line is drawn in
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=20)
HOSTILE = """"><script src='//x'>&lt;</title>"""


def parse(text: str) -> ElementTree.Element:
    svg = ElementTree.fromstring(text)
    assert {mark.tag for mark in svg.iter()} <= {"svg", "g", "title", "text", "line", "circle", "polyline"}
    return svg


def find(svg: ElementTree.Element, tag: str, *kinds: str) -> list[ElementTree.Element]:
    return [mark for mark in svg.iter(tag) if set(kinds) <= set(mark.get("class", "").split())]


def place(mark: ElementTree.Element, *names: str) -> list[float]:
    return [float(mark.attrib[name]) for name in names]


def read_number(text: str | None) -> float:
    assert text
    return float(text.replace(",", "").removesuffix(" M")) * (1e6 if text.endswith(" M") else 1)


def list_points(svg: ElementTree.Element) -> list[tuple[float, ...]]:
    [line] = find(svg, "polyline")
    return [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]


def check_axis(svg: ElementTree.Element, upright: bool, places: Sequence[tuple[float, float]], log: bool) -> None:
    """Each pixel stands for its value: by the first and the last tick, within half a pixel."""
    texts = find(svg, "text", "tick", "end" if upright else "middle")
    ticks = [(place(text, "y")[0] - 4 if upright else place(text, "x")[0], read_number(text.text)) for text in texts]
    if upright:
        assert [pixel for pixel, _ in ticks] == pytest.approx([place(line, "y1")[0] for line in find(svg, "line")])
    pixels, values = np.array([*ticks, *places]).T
    values = np.log10(values) if log else values
    last = len(ticks) - 1
    assert (TOP if upright else LEFT) <= min(pixels) <= max(pixels) <= (BOTTOM if upright else RIGHT)
    per_pixel = (values[last] - values[0]) / (pixels[last] - pixels[0])
    np.testing.assert_allclose(values, values[0] + (pixels - pixels[0]) * per_pixel, atol=abs(per_pixel) / 2)


def check_points(svg: ElementTree.Element, points: list[tuple[float, float]], log: bool = False) -> None:
    drawn = list_points(svg)
    for axis in (0, 1):
        places = [(pixel[axis], point[axis]) for pixel, point in zip(drawn, points, strict=True)]
        check_axis(svg, upright=axis == 1, places=places, log=log)


@settings(deadline=None, max_examples=60)
@given(
    xs=st.integers(1, 1000).flatmap(lambda most: st.sets(st.integers(0, most), min_size=2, max_size=60).map(sorted)),
    ys=st.integers(0, 400).flatmap(lambda least: st.lists(st.integers(least, 403), min_size=60, max_size=60)),
    scale=st.sampled_from([0.001, 1.0, 1000.0, 100_000.0]),
)
def test_points_are_read_off_the_axes(xs: list[int], ys: list[int], scale: float) -> None:
    points = [(float(x), y * scale) for x, y in zip(xs, ys, strict=False)]
    svg = parse(draw_line(points, ("x", "y"), color=1))
    drawn = list_points(svg)
    assert all(read_number(text.text).is_integer() for text in find(svg, "text", "middle", "tick"))
    assert len(find(svg, "polyline", "c1")) == 1
    assert [tuple(place(dot, "cx", "cy")) for dot in find(svg, "circle", "c1")] == drawn
    check_points(svg, points)
    heights = [y for _, y in drawn]
    assert (drawn[0][0], drawn[-1][0]) == (LEFT, RIGHT)
    assert TOP < min(heights) <= max(heights) < BOTTOM
    assert len({y for _, y in points}) == 1 or max(heights) - min(heights) > 0.8 * (BOTTOM - TOP)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 10**7), min_size=2, max_size=50), st.integers(1, 6))
def test_points_are_read_off_logarithmic_axes(more: list[int], decades: int) -> None:
    ys = [*more, min(more) * 10**decades, min(more) * 100]
    points = [(float(x**2), float(y)) for x, y in enumerate([*ys, *ys, *ys, *ys], start=1)]
    svg = parse(draw_line(points, ("x", "y"), log=True))
    check_points(svg, points, log=True)
    wide, tall = zip(*list_points(svg), strict=True)
    assert (min(wide), max(wide), min(tall), max(tall)) == (LEFT, RIGHT, TOP, BOTTOM)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5_000_000), st.integers(1, 50), st.booleans())
def test_narrow_ranges_have_ticks_and_no_two_say_the_same(low: int, span: int, log: bool) -> None:
    points = [(float(low), low / 8), (float(low + span), (low + span) / 8)]
    svg = parse(draw_line(points, ("x", "y"), log=log))
    check_points(svg, points, log=log)
    for side in ("middle", "end"):
        told = [read_number(text.text) for text in find(svg, "text", "tick", side)]
        assert 2 <= len(set(told)) == len(told)


@pytest.mark.parametrize(("n", "n_dots"), [(1, 1), (60, 60), (61, 0), (400, 0), (401, 0), (5000, 0)])
def test_of_many_points_those_are_drawn_that_the_eye_can_tell(n: int, n_dots: int) -> None:
    ys = np.random.default_rng(0).normal(size=n).cumsum() + 100
    svg = parse(draw_line([(float(x), float(y)) for x, y in enumerate(ys)], ("x", "y")))
    drawn = list_points(svg)
    low, high = ys.min() - 0.08 * np.ptp(ys), ys.max() + 0.08 * np.ptp(ys)
    wide = LEFT + np.arange(n) / max(n - 1, 1) * (RIGHT - LEFT)
    tall = BOTTOM - (ys - low) / (high - low) * (BOTTOM - TOP) if n > 1 else [(BOTTOM + TOP) / 2]
    known = [(float(f"{x:.1f}"), float(f"{y:.1f}")) for x, y in zip(wide, tall, strict=True)]
    assert len(find(svg, "circle")) == n_dots
    assert drawn == known if n <= 400 else set(drawn) < set(known)
    assert len(drawn) <= 400
    assert drawn[-1] == known[-1]
    gaps = np.diff([LEFT, *(x for x, _ in drawn)])
    assert gaps.min() >= 0
    assert n < 400 or gaps.max() < 2.3


@settings(deadline=None, max_examples=60)
@given(
    groups=st.lists(
        st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted), min_size=2, max_size=2), max_size=5
    ),
    scale=st.sampled_from([1e-4, 1.0, 3000.0]),
    bare=st.booleans(),
)
def test_intervals_are_read_off_their_axis_and_no_row_touches_another(
    groups: list[list[list[float]]], scale: float, bare: bool
) -> None:
    given = [
        (f"g{n}", [Point(b * scale, None if bare else a * scale, None if bare else c * scale) for a, b, c in rows])
        for n, rows in enumerate(groups)
    ]
    svg = parse(draw_intervals(given, ("one", "two")))
    found, lines, places = list(svg.iter("g")), list[float](), list[tuple[float, float]]()
    for number, (name, point) in enumerate((name, point) for name, points in given for point in points):
        series, group = number % 2, found[number]
        assert group.findtext("title") == f"{name}, {('one', 'two')[series]}: {point.value:.4f}"
        [dot], [stem] = find(group, "circle", f"c{series}"), find(group, "line", "stem", f"c{series}")
        ends = [place(bar, "x1", "x2") for bar in find(group, "line", "bar", f"c{series}")]
        places += zip([*place(stem, "x1", "x2"), *place(dot, "cx")], (0, point.value, point.value), strict=True)
        places += [] if bare else zip(*ends, (point.low or 0, point.high or 0), strict=True)
        assert len(ends) == (0 if bare else 1)
        lines += place(dot, "cy")
        assert {*place(stem, "y1", "y2")} == {lines[-1]}
    check_axis(svg, upright=False, places=places, log=False)
    height = float(svg.attrib["viewBox"].split()[-1])
    assert np.diff([0, *lines, height - 20]).min() > 12
    assert not len(lines) or np.diff([0, *lines])[2::2].min(initial=99) > 1.5 * np.diff(lines)[::2].max()
    labels = find(svg, "text", "label")
    assert [label.text for label in labels] == [name for name, _ in given]
    middles = [sum(lines[n : n + 2]) / 2 + 4 for n in range(0, len(lines), 2)]
    assert [place(label, "y")[0] for label in labels] == middles


@settings(deadline=None, max_examples=60)
@given(NAMES | st.just(HOSTILE), NAMES | st.just(HOSTILE))
def test_names_are_shown_as_they_are_and_are_never_markup(first: str, second: str) -> None:
    svg = parse(draw_line([(0, 1)], (first, second)))
    assert svg.attrib["aria-label"] == f"{second} by {first}"
    assert [text.text or "" for text in find(svg, "text", "label")] == [first]
    svg = parse(draw_intervals([(first, [Point(1, None, None)])], [second]))
    assert [text.text or "" for text in find(svg, "text", "label")] == [first]
    assert svg.findtext("g/title") == f"{first}, {second}: 1.0000"
    with pytest.raises(ValueError, match="zip"):
        draw_intervals([(first, [Point(1, None, None)])], [first, second])
