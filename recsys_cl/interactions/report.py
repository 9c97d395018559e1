"""What an ingest tells: what was read, kept and refused, for people and for the run's folder; JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypedDict


class FileReport(TypedDict):
    """One source of the log: `new` where this run parsed it, `kept` where an earlier one had; user_column: which of its
    columns names the user."""

    name: str
    size_bytes: int
    sha256: str
    n_rows: int
    status: Literal["new", "kept"]
    user_column: str


class AttributeReport(TypedDict):
    """What an attribute file held: lines, of which some gave an id again (the first counts) or had none; ids of the log
    that it does not hold; paths of pictures that lead out of their root; what was recognized as what."""

    n_lines: int
    n_repeated: int
    n_refused: int
    n_missing: int
    n_outside: int
    columns: dict[str, str]


@dataclass(frozen=True)
class IngestReport:
    """n_read == n_kept + sum(refused.values()), always; n_events is n_kept.

    refused: rows by reason. columns: the column chosen for each role. first_time, last_time: ISO 8601, None where the
    log is not timed. items, users: what the attribute files held, None without one. fingerprint: sha256 over what was
    read and how it was understood, the same wherever it lies.
    """

    n_read: int
    n_kept: int
    refused: dict[str, int]
    files: list[FileReport]
    columns: dict[str, str]
    timed: bool
    first_time: str | None
    last_time: str | None
    n_users: int
    n_items: int
    n_events: int
    items: AttributeReport | None
    users: AttributeReport | None
    notes: list[str]
    fingerprint: str

    def __post_init__(self) -> None:
        if self.n_read != self.n_kept + sum(self.refused.values()):
            raise ValueError(f"{self.n_read} rows read, {self.n_kept} kept, {sum(self.refused.values())} refused")

    def dump(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    @staticmethod
    def load(values: Mapping[str, Any]) -> IngestReport:
        """The report from what `dump` gave; other keys are left out. Raises KeyError where one is missing."""
        return IngestReport(**{field.name: values[field.name] for field in fields(IngestReport)})
