"""The sections of the configuration that a scheduled run reads beside its stages: exports, times, and who is told.

They are of no stage: a run that is gone on with under other values keeps all that it has done. [export] and [schedule]
are settings of a run like any other, and stand in its fingerprint: a scheduled run with another value is a new one, and
publishes its window anew. [notify] is no setting of a run.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys_cl.sections import Count, Section


class ExportConfig(Section):
    """Recommendations and neighbors for everyone."""

    what: tuple[Literal["recommendations", "neighbors"], ...] = Field(
        ("recommendations",), strict=False, description="What the daily flow exports into the store, under `exports`."
    )
    k: Count = Field(20, description="Rows for each user or item.")


class ScheduleConfig(Section):
    """When a scheduled run may begin with a window of the log, and what maintenance keeps."""

    marker: str = Field("_SUCCESS", description="A folder that holds this file is written to no longer. Empty: none.")
    quiet_minutes: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Without the marker, files that have not changed for so long are whole."
    )
    wait_minutes: Annotated[float, Field(ge=0)] = Field(
        60.0, description="How long a scheduled run waits for a window that is being written, before it goes without."
    )
    keep_releases: Count = Field(7, description="Releases that maintenance keeps, the newest; the live one always.")
    keep_runs: Count = Field(3, description="Runs that maintenance keeps, the newest, beside those of kept releases.")
    most_hours: Annotated[float, Field(gt=0)] = Field(
        24.0,
        description="A stage, an export or a part of maintenance that takes longer is ended, and its flow has failed; "
        "the next flow goes on with it. A flow waits for so long at most for another one that writes to the store.",
    )


class NotifyConfig(Section):
    """Who is told when a flow begins or ends: by an HTTP request, a command, or both."""

    webhook: str = Field(
        "", description="URL that gets a JSON object by POST (`${NAME}` is read from the environment). Empty: none."
    )
    command: tuple[str, ...] = Field(
        (), strict=False, description="A program and its arguments; gets the same JSON on its standard input."
    )
    states: tuple[Literal["running", "completed", "failed", "crashed", "cancelled"], ...] = Field(
        ("failed", "crashed", "cancelled"), min_length=1, strict=False, description="The states that are told."
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = Field(
        10.0, description="How long an answer of the webhook, or the end of the command, is waited for."
    )
