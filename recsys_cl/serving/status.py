"""How the service is: comes in what holds the live release, goes out whether it is ready, and its figures."""

from __future__ import annotations

from typing import Any

from recsys_cl.serving.answers import measure_age
from recsys_cl.serving.holder import Holder
from recsys_cl.serving.metrics import Gauge


def describe_readiness(holder: Holder) -> dict[str, Any]:
    """`{"ready", "release", "age_seconds", "refused"}`; refused: None, or the release that `CURRENT` names and that
    cannot be used, with the reason, while the one before it answers."""
    live, refused = holder.live, holder.refused
    known = {"ready": True, "release": live.release.version, "age_seconds": measure_age(live)}
    named = None if refused is None else {"release": refused.release, "reason": refused.reason, "since": refused.since}
    return known | {"refused": named}


def list_gauges(holder: Holder) -> list[Gauge]:
    """Figures of the live release, and of those that came and were refused."""
    live, refused = holder.live, holder.refused
    return [
        (f'recsys_release_info{{release="{live.release.version}"}}', "gauge", "The release that answers.", 1),
        ("recsys_release_age_seconds", "gauge", "Since the release that answers was made.", measure_age(live)),
        ("recsys_release_items", "gauge", "Items of the release that answers.", live.release.n_items),
        ("recsys_release_users", "gauge", "Users of the release that answers.", len(live.release.parts.users)),
        ("recsys_release_refused", "gauge", "1 while CURRENT names what cannot be used.", int(refused is not None)),
        ("recsys_reloads_total", "counter", "Releases that went live since the start.", holder.n_reloads),
        ("recsys_reload_failures_total", "counter", "Releases that were refused since the start.", holder.n_refusals),
    ]
