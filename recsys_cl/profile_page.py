"""A profile as a page: comes in what was found in a log, goes out one self-contained HTML document."""

from __future__ import annotations

from datetime import date

from recsys_cl.evaluation.charts import draw_line
from recsys_cl.evaluation.page import bullets, cells_table, escape, isolate, paragraph, render_page, section
from recsys_cl.interactions.profile import Profile
from recsys_cl.profile_summary import HEADS, build_bound_rows, build_tables
from recsys_cl.profiling import Profiled

_PAIRS = {
    "What there is": ("volume", "time"),
    "Popularity, and what one has": ("popularity, events", "events of a user", "events of an item"),
    "Kinds and refusals": ("kinds, events", "refused, rows"),
}


def render_profile(profiled: Profiled) -> str:
    """The whole page: what changed first, then the tables, then time."""
    logs = [(profiled.log, profiled.profile)]
    if profiled.beside is not None:
        logs.append(profiled.beside)
    tables = build_tables([profile for _, profile in logs])
    body = [f"<h1>Profile of {isolate(profiled.log)}</h1>"]
    body += [paragraph(f"{HEADS[1]}: {profiled.beside[0]}", "soft")] if profiled.beside is not None else []
    body.append(_render_contract(profiled))
    for heading, titles in _PAIRS.items():
        parts = [
            "<div>" + cells_table([escape(title), *HEADS[: len(logs)]], cells) + "</div>"
            for title in titles
            if (cells := [[isolate(row[0]), *(escape(cell) for cell in row[1:])] for row in tables[title]])
        ]
        body.append(section(heading, f'<div class="pair">{"".join(parts)}</div>' if parts else ""))
    charts = [_render_times(name, profile, color) for color, (name, profile) in enumerate(logs)]
    return render_page(f"Profile of {profiled.log}", [*body, section("When", *charts)])


def _render_contract(profiled: Profiled) -> str:
    if not profiled.bounds:
        return section("Data contract", paragraph("Nothing to compare with.", "soft"))
    head, *rows = build_bound_rows(profiled.bounds)
    whom = f"the last {len(profiled.runs)} published runs" if profiled.beside is None else "the other log"
    changed = profiled.changes
    said = f"{len(changed)} of {len(profiled.bounds)} figures lie outside of what is usual in {whom}."
    cells = []
    for row in rows:
        kind = "bad" if row[-1] == "CHANGED" else "good"
        cells.append(
            [isolate(row[0]), *(escape(c) for c in row[1:-1]), f'<span class="{kind}">{escape(row[-1])}</span>']
        )
    table = cells_table([escape(name) for name in head], cells)
    return section("Data contract", paragraph(said), bullets(changed), table)


def _render_times(name: str, profile: Profile, color: int) -> str:
    times = profile.times
    if times is None:
        return paragraph(f"{name} has no times.", "soft")
    first = date.fromisoformat(next(iter(times.days)))
    days = {date.fromisoformat(day).toordinal() - first.toordinal(): n for day, n in times.days.items()}
    per_day = [(float(day), float(days.get(day, 0))) for day in range(times.n_days)]
    hours = [(float(hour), 100 * share) for hour, share in enumerate(times.hours)]
    return (
        f"<h3>{isolate(name)}</h3>"
        + '<div class="pair"><div>'
        + paragraph(f"Events of a day, from {first.isoformat()}", "soft")
        + draw_line(per_day, ("day", "events"), color)
        + "</div><div>"
        + paragraph("Percent of the events in each hour of the day (UTC)", "soft")
        + draw_line(hours, ("hour", "percent"), color)
        + "</div></div>"
    )
