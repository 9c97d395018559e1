"""What a person reads of releases: comes in what upkeep found, goes out text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_cl.compacting import Compacted
from recsys_cl.publishing.manifest import GateResult, Manifest
from recsys_cl.publishing.seal import Damage
from recsys_cl.serving.export import Exported
from recsys_cl.texts import SHOWN, format_table, show_text


def describe_releases(found: Sequence[dict[str, Any]]) -> str:
    """One line a release, the live one marked."""
    rows = [["", "release", "created", *SHOWN]]
    for entry in found:
        figures = [f"{entry['metrics'][m]:.4f}" if m in entry["metrics"] else "" for m in SHOWN]
        rows.append(["live" if entry["live"] else "", entry["release"], entry["created"] or "", *figures])
        if "broken" in entry:
            rows[-1][2] = f"broken: {entry['broken']}"
    due = [entry["retraining_due"] for entry in found if "retraining_due" in entry]
    lines = [f"retraining is due: users were erased at {since}, and nothing was trained anew since" for since in due]
    return "\n".join([format_table(rows), *lines]) if found else "no releases"


def describe_forgotten(found: dict[str, Any]) -> str:
    """What was erased, what could not be reached, and whether any file still names one of the users."""
    counts = [f"{len(found[name]):,} {name}" for name in ("releases", "runs", "sources", "exports") if found[name]]
    lines = [f"{len(found['users']):,} users erased" + (f" from {', '.join(counts)}" if counts else "")]
    if found["live"] in found["releases"].values():
        lines.append(f"release {found['live']} is live")
    if found["retraining"]:
        lines.append("retraining is due: until then items' vectors hold what was learned from these users' events")
    for name, words in (("logs", "raw log"), ("outside", "export")):
        lines += [f"out of reach, and to be mended by hand: {words} {show_text(place)}" for place in found[name]]
    lines += [f"STILL NAMED in {show_text(path)}" for path in found["found"]]
    still = f"{len(found['found'])} of " if found["found"] else "none of "
    lines.append(f"checked: {still}{found['n_checked']:,} files that name users names one of them")
    return "\n".join([*lines, f"receipt: {found['receipt']}"])


def build_beside_rows(gate: GateResult) -> list[dict[str, str]]:
    """How a candidate stands beside the release that was live, on the users that both can judge: a row of differences
    with their intervals, by metric; none where nobody could be judged."""
    if gate.beside is None or gate.beside["compared"] is None:
        return []
    changes = [change for change in gate.beside["compared"]["changes"] if change["part"] == "everyone"]
    figures = {
        c["metric"]: f"{c['candidate'] - c['earlier']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]" for c in changes
    }
    return [{"": f"model − {gate.beside['release']}"} | figures]


def describe_beside(manifest: Manifest) -> list[str]:
    """How a release stands beside the one that was live; no line for a first one."""
    gate, drift, lines = manifest.gate, manifest.drift, []
    if gate.forced and not gate.passed:
        lines += [f"  forced ({gate.forced}), though {reason}" for reason in gate.reasons]
    if drift is None:
        return lines if manifest.parent is None else [*lines, f"  {gate.alone}"]
    changes = [] if gate.beside is None or gate.beside["compared"] is None else gate.beside["compared"]["changes"]
    figures = [
        f"{c['metric']} {c['candidate'] - c['earlier']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]" for c in changes[:2]
    ]
    lines.append(f"  beside {drift.release}: {', '.join(figures) or 'no user could be judged by both'}")
    if drift.n_items:
        lines.append(
            f"  {drift.churn:.1%} of the top 10 neighbors changed; for stored queries {drift.stored_after:.1%}, "
            f"without the rotation {drift.stored_before:.1%}"
        )
    return lines


def describe_damages(found: dict[str, list[Damage]]) -> str:
    """A line for each file that is not as it was sealed; else how many releases are whole."""
    lines = [
        f"{damage.part}: {damage.found}; expected {damage.expected} (release {version})"
        for version, damages in found.items()
        for damage in damages
    ]
    return "\n".join(lines) if lines else f"{len(found)} releases, each whole"


def describe_compacted(found: Compacted) -> str:
    """What compacting a store has deleted."""
    size = f"{found.size_bytes / 2**20:,.1f} MiB"
    kept = f"; all runs are kept, for these cannot be read: {', '.join(found.unreadable)}" if found.unreadable else ""
    return f"deleted {len(found.runs)} runs and {found.n_sources} cached sources, {size}{kept}"


def describe_rebuilt(found: dict[str, Any]) -> str:
    """Whether a release could be made again."""
    if found["changed"]:
        head = f"release {found['release']} cannot be rebuilt, for what it was made from has changed:"
        return "\n".join([head, *(f"  {line}" for line in found["changed"])])
    if found["differing"]:
        return f"release {found['release']} came out otherwise: {', '.join(found['differing'])}"
    return f"release {found['release']}: the same vectors and index, bit for bit"


def describe_diff(found: dict[str, Any]) -> str:
    """What differs between two releases."""
    rows = [["", found["first"], found["second"]]]
    for name, values in found["metrics"].items():
        if name in SHOWN:
            rows.append([name, *("–" if value is None else f"{value:.4f}" for value in values)])
    counts = found["n_items"]
    rows.append(["items", f"{counts['first']:,}", f"{counts['second']:,}"])
    lines = [format_table(rows)]
    for what in ("gained", "lost"):
        named = ", ".join(show_text(item_id) for item_id in found[what])
        lines.append(
            f"items {what}: {counts[what]:,}"
            + (f" ({named}{', …' if counts[what] > len(found[what]) else ''})" if named else "")
        )
    if found["churn"] is not None:
        lines.append(
            f"neighbors changed: {found['churn']:.1%} of the top 10, over {found['n_compared']:,} items; most for"
        )
        lines += [
            f"  {show_text(moved['item_id'])}: {moved['changed']:.0%}" for moved in found["moved"] if moved["changed"]
        ]
    return "\n".join(lines)


def describe_export(done: Exported) -> str:
    """A finished export: its lines and its place; what was there before, what was left out, what was missed."""
    told = [f"{done.n_lines:,} rows of {done.what} in {done.place}"]
    if done.n_shards_kept:
        told.append(f"{done.n_shards_kept:,} of {done.n_shards:,} shards were there already")
    if done.n_unknown:
        told.append(f"{done.n_unknown:,} unknown ids were left out")
    if done.ann_recall is not None:
        told.append(f"of the exact answers it holds {done.ann_recall:.1%}")
    return "; ".join(told)
