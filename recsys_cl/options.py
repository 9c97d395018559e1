"""What commands can be told, each option once: comes in as text of the command line, goes out typed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from recsys_cl.serving.filters import Filters

ConfigFile = Annotated[Path | None, Parameter(help="TOML file; without one the defaults hold, or the run's own.")]
Store = Annotated[Path, Parameter(help="Folder that holds raw, runs and releases.")]
MaybeStore = Annotated[Path | None, Parameter(help="Folder that holds raw, runs and releases (default: data).")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for programs.", negative="")]
RunId = Annotated[str | None, Parameter(name="--run", help="The run to go on with (default: the newest unfinished).")]
Force = Annotated[str | None, Parameter(help="Publish even if the gate refuses; this reason is recorded.")]
K = Annotated[int, Parameter(name=["-k", "--k"], help="How many.")]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", help="One or more section.key=value; may be repeated.", negative="", consume_multiple=True),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """What a run can be told."""

    store: MaybeStore = None
    set: Set = None
    as_json: Json = False


@Parameter(name="*")
@dataclass(frozen=True)
class StageSettings(Settings):
    """What a stage alone can be told."""

    run_id: RunId = None


@Parameter(name="*")
@dataclass(frozen=True)
class Inputs:
    """What a run reads."""

    log: Annotated[str | None, Parameter(help="Log: file, folder, glob, or database URL.")] = None
    items: Annotated[str | None, Parameter(help="File with titles and attributes of the items.")] = None
    users: Annotated[str | None, Parameter(help="File with attributes of the users.")] = None

    def list_settings(self) -> list[str]:
        """As settings of the configuration."""
        from recsys_cl.config import format_value

        return [f"ingest.{name}={format_value(value)}" for name, value in vars(self).items() if value is not None]


@Parameter(name="*")
@dataclass(frozen=True)
class Beside:
    """What a log is compared with."""

    beside: Annotated[str | None, Parameter(help="Another log, to compare with.")] = None
    store: Annotated[Path | None, Parameter(help="Folder of a store, to compare with its last published runs.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class SplitFiles:
    """A public split: two files, or one of sequences."""

    train: Annotated[Path | None, Parameter(help="Training events, with --test.")] = None
    test: Annotated[Path | None, Parameter(help="Test events, read once, at the end.")] = None
    sequences: Annotated[Path | None, Parameter(help="`user item item …` lines in time order: leave-one-out.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class LookupOptions:
    """Where to look, and how it is answered."""

    store: Store = Path("data")
    k: K = 10
    as_json: Json = False


@Parameter(name="*")
@dataclass(frozen=True)
class FilterOptions:
    """What may be answered."""

    allow: Annotated[
        list[str] | None,
        Parameter(help="Only these item_ids; may be repeated.", negative="", allow_leading_hyphen=True),
    ] = None
    deny: Annotated[
        list[str] | None,
        Parameter(help="None of these item_ids; may be repeated.", negative="", allow_leading_hyphen=True),
    ] = None
    where: Annotated[
        list[str] | None,
        Parameter(
            help="Only items with this attribute, as name=value; repeated for one name: any of its values.", negative=""
        ),
    ] = None

    def build(self) -> Filters:
        """As filters. Raises InputError for a condition that is none."""
        from recsys_cl.serving.filters import Filters, parse_where

        allow = None if self.allow is None else tuple(self.allow)
        return Filters(allow, tuple(self.deny or ()), parse_where(self.where or ()))


@Parameter(name="*")
@dataclass(frozen=True)
class ServeOptions:
    """Where the service listens, and who may ask."""

    host: Annotated[str, Parameter(help="Address to listen at.")] = "127.0.0.1"
    port: Annotated[int, Parameter(help="Port to listen at; 0 takes one that is free.")] = 8000
    token_file: Annotated[
        Path | None, Parameter(help="File whose first line requests must bring: Authorization: Bearer TOKEN.")
    ] = None
    allow_anonymous: Annotated[bool, Parameter(help="Let other machines ask without a token.", negative="")] = False
    quiet: Annotated[bool, Parameter(help="No line for each request.", negative="")] = False
    as_json: Json = False
