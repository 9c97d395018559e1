"""Pieces of a self-contained page: comes in as plain text, goes out as HTML in which every text is escaped.

Titles and ids are hostile until escaped. The page's own policy forbids scripts and every request.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

_LONGEST_LINE = 2000
_PICTURE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")

STYLE = """
:root { color-scheme: light dark; --back: #fbfaf7; --card: #ffffff; --ink: #1d2430; --soft: #5c6675; --edge: #e3e0d8;
  --c0: #0b6e99; --c1: #c2611f; --c2: #7a58b5; --good: #2c7a4b; --bad: #b3362b; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --card: #1c2128; --ink: #e6e8eb; --soft: #9aa4b2;
  --edge: #303742; --c0: #58b4dd; --c1: #f0995a; --c2: #b79be6; --good: #6cc48d; --bad: #f08b80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 8px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 8px; } h3 { font-size: 1rem; margin: 16px 0 4px; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 18px; margin: 16px 0; }
p { margin: 6px 0; max-width: 75ch; } .soft { color: var(--soft); } small { color: var(--soft); }
ul { margin: 6px 0; padding-left: 20px; } li { margin: 3px 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } .pair > div { min-width: 0; } .pair { display: grid; gap: 8px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
th { font-weight: 600; color: var(--soft); } tbody th { color: var(--ink); font-weight: 500; min-width: 9em; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; vertical-align: bottom; }
td small { display: block; } td { overflow-wrap: anywhere; }
svg { width: 100%; max-width: 520px; height: auto; display: block; margin: 6px 0; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); } svg .label { fill: var(--ink); }
.middle { text-anchor: middle; } .end { text-anchor: end; } .grid { stroke: var(--edge); stroke-width: 1; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; } .fill { fill: var(--c); }
.bar { stroke: var(--c); stroke-width: 6; opacity: .45; stroke-linecap: round; }
.stem { stroke: var(--c); stroke-width: 1; opacity: .35; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 50%; background: var(--c); margin: 0 6px 0 0; }
.keys span { margin-right: 16px; white-space: nowrap; } .good { color: var(--good); } .bad { color: var(--bad); }
.items { display: flex; gap: 10px; overflow-x: auto; padding: 4px 0 10px; }
.item { flex: 0 0 128px; border: 1px solid var(--edge); border-radius: 8px; padding: 8px; font-size: .85rem;
  overflow-wrap: anywhere; line-height: 1.3; } .item.asked { border: 2px solid var(--c0); }
.item img { width: 100%; height: 84px; object-fit: contain; background: #8884; border-radius: 5px; margin-bottom: 6px;
  image-rendering: auto; } .item small { display: block; }
.sheet img { max-width: 100%; min-width: 640px; } h4 { margin: 8px 0 2px; color: var(--soft); font-weight: 600; }
@media (max-width: 600px) { section { padding: 14px 12px; } th, td { padding-right: 8px; }
  tbody th { min-width: 5.5em; } td.number small { white-space: normal; max-width: 5.6em;
  margin-left: auto; overflow-wrap: normal; } }
details summary { cursor: pointer; color: var(--soft); }
"""


def render_page(title: str, body: Sequence[str]) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def escape(text: str, most: int = 160) -> str:
    """Any text as HTML: escaped, cut at `most` characters, what cannot be written as UTF-8 replaced by `?`."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    printable = "".join(character if character.isprintable() else " " for character in cut)
    return html.escape(printable.encode("utf-8", "replace").decode("utf-8"), quote=True)


def isolate(text: str) -> str:
    """A text of the log's: escaped, and its direction of writing kept from the rest of the page."""
    return f"<bdi>{escape(text)}</bdi>"


def section(heading: str, *parts: str) -> str:
    """A card with a heading; nothing where all parts are empty."""
    return (
        f"<section>\n<h2>{escape(heading)}</h2>\n{chr(10).join(p for p in parts if p)}\n</section>"
        if any(parts)
        else ""
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, or nothing; kind: a class of the style."""
    return f'<p class="{kind}">{escape(text, _LONGEST_LINE)}</p>' if text else ""


def bullets(lines: Sequence[str]) -> str:
    """A list of lines, or nothing."""
    return f"<ul>{''.join(f'<li>{escape(line, _LONGEST_LINE)}</li>' for line in lines)}</ul>" if lines else ""


def pairs_table(rows: Mapping[str, str]) -> str:
    """A table of two columns, label and value."""
    lines = (
        f"<tr><th>{isolate(label)}</th><td class='number'>{isolate(value)}</td></tr>" for label, value in rows.items()
    )
    return f"<div class='wide'><table><tbody>{''.join(lines)}</tbody></table></div>" if rows else ""


def cells_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML already; all columns but the first are numbers."""
    top = "".join(f"<th class='{'number' if column else ''}'>{name}</th>" for column, name in enumerate(head))
    lines = "".join(
        f"<tr><th>{row[0]}</th>{''.join(f'<td class=number>{cell}</td>' for cell in row[1:])}</tr>" for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def sheet(uri: str) -> str:
    """A picture over the whole width of a card; as `picture`."""
    return f"<div class='wide sheet'>{picture(uri)}</div>"


def picture(uri: str) -> str:
    """An image element. Raises ValueError for anything but a picture as a base64 data URI."""
    if _PICTURE.fullmatch(uri) is None:
        raise ValueError(f"{uri[:40]!r} is not a picture as a data URI")
    return f'<img src="{uri}" alt="">'
