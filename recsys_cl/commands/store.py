"""Commands on a store and its releases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from recsys_cl.door import print_answer, read_id_file
from recsys_cl.options import Json, Store


def releases(*, store: Store = Path("data"), as_json: Json = False) -> None:
    """List the releases of a store, oldest first.

    Example: `recsys-cl releases --store data --json`
    """
    from recsys_cl.publishing.live import list_releases
    from recsys_cl.release_summary import describe_releases

    found = list_releases(store)
    print_answer(as_json, found, describe_releases(found))


def rollback(
    *,
    store: Store = Path("data"),
    to: Annotated[
        str | None, Parameter(help="The release to go back to (default: the one before the live one).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an earlier release live again; its answers are those it gave before.

    Example: `recsys-cl rollback --store data`
    """
    from recsys_cl.publishing.upkeep import roll_back

    done = roll_back(store, to)
    print_answer(as_json, done, f"release {done['to']} is live again, {done['from']} is not; both are kept")


def verify(*, store: Store = Path("data"), as_json: Json = False) -> None:
    """Check every file of every release against its seal; print those that are damaged, by their path inside it.

    Example: `recsys-cl verify --store data`

    Exit code 1 where there is one.
    """
    from recsys_cl.publishing.upkeep import dump_damages, verify_store
    from recsys_cl.release_summary import describe_damages

    found = verify_store(store)
    print_answer(as_json, dump_damages(found), describe_damages(found))
    if any(found.values()):
        raise SystemExit(1)


def compact(
    *,
    store: Store = Path("data"),
    keep: Annotated[int, Parameter(help="So many of the newest runs stay, beside those of releases.")],
    as_json: Json = False,
) -> None:
    """Delete old runs and what was cached of sources that are no part of the log any more.

    Example: `recsys-cl compact --store data --keep 3`
    """
    from recsys_cl.compacting import compact_store
    from recsys_cl.release_summary import describe_compacted

    done = compact_store(store, keep)
    print_answer(as_json, done.dump(), describe_compacted(done))


def prune(
    *,
    store: Store = Path("data"),
    keep: Annotated[int, Parameter(help="So many of the newest stay.")],
    as_json: Json = False,
) -> None:
    """Delete old releases; never the live one, nor one that a process has open.

    Example: `recsys-cl prune --store data --keep 5`
    """
    from recsys_cl.publishing.upkeep import prune_store

    done = prune_store(store, keep)
    in_use = f"; in use, and kept: {', '.join(done['in_use'])}" if done["in_use"] else ""
    print_answer(as_json, done, f"{len(done['deleted'])} releases deleted{in_use}")


def forget(
    *,
    user: Annotated[
        list[str] | None, Parameter(help="A user of the log; may be repeated.", allow_leading_hyphen=True, negative="")
    ] = None,
    users: Annotated[Path | None, Parameter(help="File with one user_id a line.")] = None,
    store: Store = Path("data"),
    as_json: Json = False,
) -> None:
    """Erase users from releases, runs, caches and exports; say what could not be reached. Retraining is due afterwards.

    Example: `recsys-cl forget --user u000042 --store data`

    Answers for all others stay as they are. Interrupted, the same command goes on. Exit code 1 where a file of the
    store still names one of them in the end.
    """
    from recsys_cl.forgetting import forget as forget_users
    from recsys_cl.release_summary import describe_forgotten

    named = (user or []) + ([] if users is None else read_id_file(users, "the list of users", "user_id"))
    done = forget_users(store, named)
    print_answer(as_json, done.dump(), describe_forgotten(done.dump()))
    if done.receipt.found:
        raise SystemExit(1)


def rebuild(
    release: Annotated[str, Parameter(help="A release, by its name.")],
    /,
    *,
    store: Store = Path("data"),
    as_json: Json = False,
) -> None:
    """Train anew as a release records, and say whether each vector and index is the same, bit for bit, or what changed.

    Example: `recsys-cl rebuild 20260301T101500Z-0123456789ab --store data`

    Nothing is published. Exit code 1 where they are not the same.
    """
    from recsys_cl.progress import show_progress
    from recsys_cl.rebuilding import rebuild as rebuild_release
    from recsys_cl.release_summary import describe_rebuilt

    with show_progress() as progress:
        found = rebuild_release(store, release, progress).dump()
    print_answer(as_json, found, describe_rebuilt(found))
    if not found["same"]:
        raise SystemExit(1)


def diff(
    release_a: Annotated[str, Parameter(help="A release, by its name.")],
    release_b: Annotated[str, Parameter(help="Another one of the same store.")],
    /,
    *,
    store: Store = Path("data"),
    as_json: Json = False,
) -> None:
    """Say what differs between two releases: metrics, items gained and lost, neighbors that moved most.

    Example: `recsys-cl diff 20260301T101500Z-0123456789ab 20260302T101500Z-ba9876543210 --store data`
    """
    from recsys_cl.publishing.store import find_release
    from recsys_cl.release_summary import describe_diff
    from recsys_cl.serving.diff import diff_releases
    from recsys_cl.serving.lookup import open_release

    found = diff_releases(*(open_release(find_release(store, name)) for name in (release_a, release_b)))
    print_answer(as_json, found, describe_diff(found))


COMMANDS = (releases, rollback, verify, compact, prune, forget, rebuild, diff)
