"""Commands that ask a release: neighbors and recommendations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from recsys_cl.door import print_answer, read_id_file
from recsys_cl.errors import ConfigError
from recsys_cl.options import FilterOptions, LookupOptions

_PLAIN, _NO_FILTERS = LookupOptions(), FilterOptions()


def similar(
    item_id: Annotated[
        str | None, Parameter(help="The item whose neighbors are wanted.", allow_leading_hyphen=True)
    ] = None,
    *,
    image: Annotated[Path | None, Parameter(help="A picture instead of an item; it may be a new one.")] = None,
    by: Annotated[
        Literal["behavior", "image"] | None,
        Parameter(
            help="What makes neighbors: who touches them, or how they look (default: behavior; image for --image)."
        ),
    ] = None,
    options: LookupOptions = _PLAIN,
    filters: FilterOptions = _NO_FILTERS,
) -> None:
    """Print the neighbors of an item, or of a picture.

    Example: `recsys-cl similar i00042 --store data -k 5`

    An item that has a picture and no events yet is answered from the place that its picture gives it; `space` tells so.
    """
    from recsys_cl.serving.image_lookup import answer_file, answer_item
    from recsys_cl.serving.lookup import open_release
    from recsys_cl.summary import describe_answers

    if (item_id is None) == (image is None):
        raise ConfigError("what to find neighbors of is not clear", "either an item_id or --image FILE")
    chosen, release = filters.build(), open_release(options.store)
    if image is not None:
        answers = answer_file(release, image, options.k, by or "image", chosen)
    else:
        assert item_id is not None
        answers = answer_item(release, item_id, options.k, by or "behavior", filters=chosen)
    print_answer(options.as_json, answers, describe_answers(answers))


def agreement(
    item_id: Annotated[str | None, Parameter(help="An item with a picture.", allow_leading_hyphen=True)] = None,
    *,
    options: LookupOptions = _PLAIN,
) -> None:
    """Print an item's neighbors by behavior and by picture side by side; without an item, what the two disagree on.

    Example: `recsys-cl agreement i00042 --store data -k 5`

    Without an item: pairs that look alike and behave differently, and pictures that are near-duplicates.
    """
    from recsys_cl.picture_summary import describe_both, describe_contrasts
    from recsys_cl.serving.image_lookup import describe_agreement, list_contrasts
    from recsys_cl.serving.lookup import open_release

    release = open_release(options.store)
    if item_id is not None:
        found = describe_agreement(release, item_id, options.k)
        print_answer(options.as_json, found, describe_both(found))
    else:
        found = list_contrasts(release)
        print_answer(options.as_json, found, describe_contrasts(found, options.k))


def recommend(
    *,
    user: Annotated[str | None, Parameter(help="A user of the log.", allow_leading_hyphen=True)] = None,
    history: Annotated[str | None, Parameter(help="item_ids, separated by commas.", allow_leading_hyphen=True)] = None,
    history_file: Annotated[Path | None, Parameter(help="File with one item_id a line, for ids with commas.")] = None,
    include_seen: Annotated[bool, Parameter(help="Items of the history may be recommended.", negative="")] = False,
    options: LookupOptions = _PLAIN,
    filters: FilterOptions = _NO_FILTERS,
) -> None:
    """Print recommendations for a user, or for anyone with a history of items.

    Example: `recsys-cl recommend --user u000042 --store data`
    """
    from recsys_cl.serving.lookup import open_release
    from recsys_cl.summary import describe_answers

    if sum(given is not None for given in (user, history, history_file)) != 1:
        raise ConfigError("whom to recommend to is not clear", "exactly one of --user, --history, --history-file")
    chosen, release = filters.build(), open_release(options.store)
    if user is not None:
        answers = release.answer_user(user, options.k, include_seen, chosen)
    else:
        answers = release.answer_history(_read_history(history, history_file), options.k, include_seen, chosen)
    print_answer(options.as_json, answers, describe_answers(answers))


def _read_history(history: str | None, path: Path | None) -> list[str]:
    if history is not None:
        return [item_id for item_id in history.split(",") if item_id]
    assert path is not None
    return read_id_file(path, "the history")


COMMANDS = (similar, agreement, recommend)
