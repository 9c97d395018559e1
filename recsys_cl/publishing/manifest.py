"""The manifest of a release: comes in and goes out as `manifest.json`, whose own hash stands in the release's name."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from recsys_cl.errors import SealError, StoreError
from recsys_cl.files import dump_json, hash_text
from recsys_cl.index.facts import IndexFacts

FORMAT = 2
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 4 << 20  # as Python objects some 30 times that
_VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
_DIGEST = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileSeal(_Part):
    """What one file of a release must be."""

    sha256: str = Field(pattern=_DIGEST)
    size_bytes: int = Field(ge=0)


class ArraySeal(_Part):
    """What one array of a release must be; dtype as numpy writes it, such as `<f4`."""

    dtype: str
    shape: tuple[int, ...]


class GateResult(_Part):
    """What the gate said: `reasons` is empty for a release that passed; else it was forced.

    beside: what it saw beside the release that was live: metrics on the same users, coverage, items lost; None where
    there was none to compare with, and `alone` says why.
    """

    reasons: tuple[str, ...] = ()
    forced: str | None = None
    beside: dict[str, Any] | None = None
    alone: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing spoke against the release."""
        return not self.reasons


class Drift(_Part):
    """How far neighbors moved from those of the release that was live, over n_items that both have.

    churn: the share of an item's top 10 that changed, each release asked by its own query. stored_before, stored_after:
    the same where the earlier release's stored query asks the new items, before and after they were rotated.
    """

    release: str
    n_items: int = Field(ge=0)
    churn: float = Field(ge=0, le=1)
    stored_before: float = Field(ge=0, le=1)
    stored_after: float = Field(ge=0, le=1)


class Erasure(_Part):
    """Why a release is not as it was published: n_users were taken out of it; 0 where they were taken out of its parent
    alone. of: the release whose place it took."""

    reason: Literal["erasure"] = "erasure"
    of: str
    n_users: int = Field(ge=0)


class ImageFacts(_Part):
    """What a manifest says of the pictures.

    side, channels: of a picture as it is encoded. place_length: of a query among the interactions that a picture gives,
    0 where it gives none. mean, std: with which a frozen model's pixels are scaled, empty for as they are.
    """

    n_items: int = Field(ge=1)
    side: int = Field(ge=1)
    channels: int = Field(ge=1)
    place_length: float = Field(ge=0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    index: IndexFacts


class Manifest(_Part):
    """Everything a reader must know of a release before it opens a part of it.

    created: ISO 8601, UTC. data_fingerprint: of the kept events. popularity_dim: the coordinate of a candidate that
    carries its popularity, against which a query has 1, or None. bag_dim: floats of what the query tower takes of an
    item. history_length: how many of a bag's last items it reads, None for all. floats_per_pair: what it holds in
    memory for each two of them. ann_recall: share of the exact top 10 that the index finds. metrics: of the evaluated
    fit, by name. cut: where the training of that fit ended, microseconds since 1970 UTC; None where it is not a cut in
    time. drift: from the release that was live, None for a first one. erasure: None for a release as it was published.
    files: every file of the release but this one. arrays: every .npy among them.
    """

    format: Literal[2] = 2  # FORMAT
    created: str
    run_id: str
    code_version: str
    parent: str | None
    config: dict[str, Any]
    config_fingerprint: str
    data_fingerprint: str
    n_users: int = Field(ge=0)
    n_items: int = Field(ge=1)
    n_events: int = Field(ge=0)
    dim: int = Field(ge=1)
    bag_dim: int = Field(ge=1)
    popularity_dim: int | None
    history_length: int | None = Field(default=None, ge=1)
    floats_per_pair: int = Field(default=0, ge=0)
    metric: Literal["inner_product"] = "inner_product"
    index: IndexFacts
    ann_recall: float = Field(ge=0, le=1)
    metrics: dict[str, Any]
    cut: int | None = None
    drift: Drift | None = None
    erasure: Erasure | None = None
    gate: GateResult
    images: ImageFacts | None = None
    files: dict[str, FileSeal]
    arrays: dict[str, ArraySeal]

    @model_validator(mode="after")
    def _check_popularity(self) -> Manifest:
        if self.popularity_dim is not None and not 0 <= self.popularity_dim < self.dim:
            raise ValueError(f"popularity_dim is {self.popularity_dim}, of {self.dim} floats")
        return self

    def dump(self) -> str:
        """The text of `manifest.json`."""
        return dump_json(self.model_dump(mode="json"))


def name_version(manifest: Manifest) -> str:
    """The folder name of a release: its second of creation, and the first digits of its manifest's hash."""
    created = datetime.fromisoformat(manifest.created).astimezone(UTC)
    return f"{created:%Y%m%dT%H%M%SZ}-{hash_text(manifest.dump())[:12]}"


def is_version(name: str) -> bool:
    """Whether `name` can be the folder name of a release; such a name never leads out of its folder."""
    return _VERSION.fullmatch(name) is not None


def parse_manifest(data: bytes, version: str) -> Manifest:
    """Check the bytes of a `manifest.json` against the release's name, and read them.

    Raises SealError where it was changed, StoreError where it is of a format that this code does not read.
    """
    try:
        text = data.decode("utf-8")
        values = json.loads(text)
        number = values["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SealError(MANIFEST, f"not a manifest ({error})", "JSON with a format number", _remedy(version)) from None
    if number != FORMAT or isinstance(number, bool):
        raise StoreError(
            f"release {version} has the format {number!r} ({MANIFEST})",
            f"format {FORMAT}",
            _convert(number, values.get("run_id")),
        )
    if hash_text(text)[:12] != version[-12:]:
        raise SealError(
            MANIFEST,
            f"its hash begins with {hash_text(text)[:12]}",
            f"{version[-12:]}, as in the name",
            _remedy(version),
        )
    try:
        return TypeAdapter(Manifest).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SealError(MANIFEST, f"{where}: {problem['msg']}", "a manifest of this version of the package") from None


def _remedy(version: str) -> str:
    return f"release {version} is damaged: publish again with recsys-cl publish, or restore it from a copy"


def _convert(number: object, run_id: object) -> str:
    if isinstance(number, int) and number > FORMAT:
        return "upgrade the package: pip install --upgrade recsys_cl"
    run = run_id if isinstance(run_id, str) and run_id else "RUN_ID"
    return f"write that run again in the present format: recsys-cl publish --store DIR --run {run}"
