"""Progress of long work: a stage reports how far it is, the door that called it decides how that is shown."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float, float, str], None]
"""(what, done, total, note): `what` names the work, `done` of `total` in any unit (total 0: unknown), `note` is for
people, such as `loss 3.21, recall@20 .214`. Called at most some ten times a second; must be cheap."""


def report_nothing(what: str, done: float, total: float, note: str = "") -> None:
    """The progress of a caller that does not want to see any."""
