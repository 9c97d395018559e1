"""A plan: what the recipe has chosen, as values that are kept in a run and read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """What was chosen on validation: n_steps of the n_planned over which the step size falls, None for all epochs;
    `reason` says why, for people."""

    n_steps: int | None
    history: list[dict[str, Any]]
    reason: str
    n_planned: int | None = None


@dataclass(frozen=True)
class Member:
    """One model of the plan: its kind, its settings beside the configuration's, the number of steps as in `Choice`, and
    the weight of its logits in the blend."""

    kind: str
    settings: list[str]
    n_steps: int | None
    n_planned: int | None
    weight: float


@dataclass(frozen=True)
class Plan:
    """What was chosen: members to fit and to blend; reasons, a line for each decision; histories of the trainings;
    validation: recall and ndcg at 20 of the whole, empty where towers were not compared."""

    members: tuple[Member, ...]
    reasons: list[str]
    histories: dict[str, list[dict[str, Any]]]
    validation: dict[str, float]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @staticmethod
    def load(values: dict[str, Any]) -> Plan:
        """From what `dump` gave."""
        return Plan(**(values | {"members": tuple(Member(**member) for member in values["members"])}))

    @staticmethod
    def of_members(values: Sequence[dict[str, Any]]) -> Plan:
        """Of its members alone, as JSON values: enough to fit it again."""
        return Plan(tuple(Member(**member) for member in values), [], {}, {})
