"""A profile for a terminal: comes in what was found in a log, goes out tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_cl.contract import Bound, show
from recsys_cl.interactions.profile import Profile
from recsys_cl.profiling import Profiled
from recsys_cl.texts import format_table, show_text

HEADS = ("this log", "the other")
_BARS = " ▁▂▃▄▅▆▇█"
Rows = list[list[str]]


def describe_profile(profiled: Profiled) -> str:
    """All tables, beside the other log where there is one, and what changed."""
    logs = [(profiled.log, profiled.profile), *([] if profiled.beside is None else [profiled.beside])]
    profiles, heads = [profile for _, profile in logs], HEADS[: len(logs)]
    texts = ["\n".join(f"{head}: {show_text(name)}" for head, (name, _) in zip(heads, logs, strict=True))]
    texts += [format_table([[title, *heads], *rows]) for title, rows in build_tables(profiles).items() if rows]
    hours = [p.times.hours for p in profiles if p.times is not None]
    if hours:
        texts.append("\n".join(["hours of the day, 0 to 23 (UTC)", *(draw_bars(shares) for shares in hours)]))
    return "\n\n".join([*texts, _describe_contract(profiled)])


def build_tables(profiles: Sequence[Profile]) -> dict[str, Rows]:
    """Tables by title; a row has a label and a cell a profile, `–` where a profile has it not."""

    def row(label: str, values: Sequence[object]) -> list[str]:
        return [label, *(show_value(value) for value in values)]

    counts = [("rows read", "n_read"), ("events", "n_events"), ("users", "n_users"), ("items", "n_items")]
    shares = [("share refused", "refused_share"), ("new users", "new_users"), ("new items", "new_items")]
    volume = [row(label, [getattr(p, name) for p in profiles]) for label, name in counts + shares]
    refused = sorted({reason for p in profiles for reason in p.refused})
    kinds = sorted({kind for p in profiles for kind in p.kinds})
    tops = {"gini": "Gini", "top_1": "share of the top 1 %", "top_5": "of the top 5 %", "top_20": "of the top 20 %"}
    quantiles = list(profiles[0].per_user)
    times = [
        ("first hour", "first"),
        ("last hour", "last"),
        ("days", "n_days"),
        ("days without events", "n_silent_days"),
    ]
    times += [("longest gap, hours", "longest_gap_hours")]
    timed = any(p.times is not None for p in profiles)
    return {
        "volume": volume,
        "refused, rows": [row(show_text(reason), [p.refused.get(reason, 0) for p in profiles]) for reason in refused],
        "kinds, events": [row(show_text(kind) or "(none)", [p.kinds.get(kind, 0) for p in profiles]) for kind in kinds],
        "popularity, events": [row(label, [p.popularity.get(name) for p in profiles]) for name, label in tops.items()],
        "events of a user": [row(name, [p.per_user.get(name) for p in profiles]) for name in quantiles],
        "events of an item": [row(name, [p.per_item.get(name) for p in profiles]) for name in quantiles],
        "time": [row(label, [getattr(p.times, name, None) for p in profiles]) for label, name in times]
        if timed
        else [],
    }


def build_bound_rows(bounds: Sequence[Bound]) -> Rows:
    """A row for each figure that was compared, under a head."""
    rows = [["figure", "found", "median", "spread", "at least", "at most", ""]]
    for bound in bounds:
        figures = (bound.found, bound.median, bound.spread, bound.low, bound.high)
        rows.append([bound.figure, *map(show_value, figures), "CHANGED" if bound.crossed else "ok"])
    return rows


def show_value(value: object) -> str:
    """A count, a share or an hour; `–` for None."""
    if value is None:
        return "–"
    return show(value) if isinstance(value, int | float) else str(value).removesuffix(":00:00Z").replace("T", " at ")


def draw_bars(shares: Sequence[float]) -> str:
    """A bar a share, the greatest one a full block."""
    most = max([*shares, 1e-12])
    return "".join(_BARS[round(share / most * (len(_BARS) - 1))] for share in shares)


def _describe_contract(profiled: Profiled) -> str:
    if profiled.config.contract.on_change == "off":
        return "contract: contract.on_change is off, nothing was compared"
    if not profiled.bounds:
        return "contract: nothing to compare with yet"
    whom = f"{len(profiled.runs)} published runs" if profiled.beside is None else "the other log"
    n_changed = len(profiled.changes)
    return f"contract, beside {whom}: {n_changed} of {len(profiled.bounds)} figures changed\n" + format_table(
        [[show_text(cell) for cell in row] for row in build_bound_rows(profiled.bounds)]
    )
