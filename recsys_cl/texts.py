"""Pieces of text for a terminal: comes in rows, figures and words of a log, goes out lines that are safe to print."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
"""The metrics that a terminal shows."""


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the last one is left as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def show_figure(figure: dict[str, float | None], sign: str = "") -> str:
    """A figure with its interval where it has one; sign: `+` for a difference."""
    value = f"{figure['value']:{sign}.4f}"
    return value if figure["low"] is None else f"{value} [{figure['low']:{sign}.4f}, {figure['high']:{sign}.4f}]"


def show_text(text: str) -> str:
    """A text of the log on one line: what would move the cursor or color the terminal is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def indent(text: str) -> str:
    """Every line two blanks to the right."""
    return "\n".join(f"  {line}" for line in text.splitlines())
