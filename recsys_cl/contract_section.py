"""The section of the data contract: how far what a run ingests may differ from what the runs before have ingested."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys_cl.sections import Count, Section, Share

Rise = Annotated[float, Field(ge=0, le=1e6)]
Change = Annotated[float, Field(ge=0, le=1)]


class ContractConfig(Section):
    """What may change from run to run, beside the median of the last runs that have published."""

    on_change: Literal["warn", "stop", "off"] = Field(
        "warn",
        description="A change past its bound is noted; stops the run before anything is published; or is ignored.",
    )
    trailing_runs: Count = Field(7, description="The last so many published runs are the ones compared with.")
    spreads: Annotated[float, Field(ge=0, le=100)] = Field(
        3.0,
        description="A figure may also differ by so many spreads (1.48 × the median deviation) of those runs, five or "
        "more of them. 0: by its own bound alone.",
    )
    most_volume_fall: Share = Field(0.5, description="Share by which the number of events may fall.")
    most_volume_rise: Rise = Field(2.0, description="Share by which the number of events may rise; 2: threefold.")
    most_users_fall: Share = Field(0.5, description="Share by which the number of users may fall.")
    most_items_fall: Share = Field(0.5, description="Share by which the number of items may fall.")
    most_refused_rise: Change = Field(0.1, description="By how much the share of refused rows may rise.")
    most_new_users_rise: Change = Field(
        0.3, description="By how much the share of users that the run before did not have may rise."
    )
    most_new_items_rise: Change = Field(0.3, description="The same for items.")
    most_top_change: Change = Field(
        0.1, description="By how much the share of the events on the most popular 1 % of the items may change."
    )
    most_kind_change: Change = Field(0.2, description="By how much the share of a kind of event may change.")
    most_hours_change: Change = Field(
        0.25, description="Share of the events that may lie in other hours of the day (UTC)."
    )
    most_silent_days_rise: Annotated[int, Field(ge=0, le=36_500)] = Field(
        3, description="How many more days between the first and the last event may be without any."
    )
