"""Which column means what: comes in as the header of a log or an attribute file, goes out as a column for each role.

Names are compared without case, punctuation and RecBole's `name:type` suffix. Each role has ranks of names: a column
of a later rank is looked at only where an earlier rank has none, so that `date` beside `timestamp`, or a session beside
a user, is no conflict. Two columns of one rank are one: the user has to say which.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from recsys_cl.config import IngestConfig
from recsys_cl.errors import LogError

Role = Literal["user", "item", "time", "kind", "weight"]
ROLES: tuple[Role, ...] = ("user", "item", "time", "kind", "weight")
DELIMITERS = (",", "\t", ";", "|", " ")

_RECBOLE_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")


def _ids(*nouns: str) -> frozenset[str]:
    return frozenset(f"{noun}{ending}" for noun in nouns for ending in ("id", "key", "uuid"))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PEOPLE = ("user", "customer", "visitor", "member", "account", "reviewer", "client", "person", "profile", "player")
_PEOPLE_TOO = ("viewer", "listener", "reader", "student", "learner", "subscriber", "buyer", "shopper", "guest", "usr")
_THINGS = ("item", "product", "movie", "film", "book", "track", "song", "video", "article", "news", "game", "app")
_PLACES = ("business", "venue", "place", "poi", "location", "restaurant", "hotel", "listing", "property")
_WORKS = (
    "content",
    "post",
    "page",
    "document",
    "doc",
    "story",
    "episode",
    "podcast",
    "show",
    "anime",
    "recipe",
    "joke",
)
_OFFERS = ("course", "job", "offer", "ad", "goods", "good", "merchandise", "material", "variant", "question")
_OFFERS_TOO = ("asset", "media", "title", "beer", "wine", "photo", "clip", "resource", "program", "exercise", "joke")
_CODES = ("asin", "sku", "skuid", "itemsku", "isbn", "isbn13", "ean", "gtin", "upc", "stockcode", "itemcode", "iid")

_NAMES: dict[Role, tuple[frozenset[str], ...]] = {
    "user": (
        _ids(*_PEOPLE, *_PEOPLE_TOO) | {"user", "uid", "customer", "visitor", "member", "reviewer", "customerno"},
        frozenset({"username", "usercode", "userhash", "nickname", "login", "steamid", "deviceid", "cookieid"}),
        frozenset({"sessionid", "session", "usersession", "basketid"}),
    ),
    "item": (
        _ids(*_THINGS, *_PLACES, *_WORKS, *_OFFERS, *_OFFERS_TOO)
        | {*_CODES, "item", "product", "movie", "book", "track", "song", "video", "article", "game"},
        frozenset({"parentasin", "productcode", "artistid", "albumid", "artist"}),
    ),
    "time": (
        _words(
            "timestamp timestamps ts eventtime eventtimestamp eventts eventdatetime datetime unixreviewtime "
            "utctimestamp "
            "unixtime unixtimestamp epoch epochtime timestampms timestampus timems timeus ratingtimestamp checkintime "
            "interactiontime interactiontimestamp occurredat transactiontime tdat clicktime servertime requesttime "
            "logtime playedat watchedat listenedat viewedat visitedat clickedat purchasedat orderedat ratedat"
        ),
        frozenset({"time", "createdat", "createtime", "creationtime", "created", "utctime", "localtime"}),
        _words("date eventdate orderdate purchasedate transactiondate invoicedate reviewdate dateadded day ds"),
    ),
    "kind": (
        _words(
            "event events eventtype eventname eventkind action actiontype actionname behavior behaviour behaviortype "
            "behaviourtype interaction interactiontype kind"
        ),
        frozenset({"type", "activity", "activitytype"}),
    ),
    "weight": (
        _words(
            "rating ratings weight stars overall bookrating userrating starrating ratingvalue reviewrating "
            "ratingscore overallrating"
        ),
        frozenset({"score", "strength", "preference", "reviewscore", "eventweight", "eventstrength", "interest"}),
        _words("playcount plays listencount listens nplays count quantity qty frequency"),
    ),
}
# In an attribute file an id may stand alone under a name that in a log would say nothing.
_LONE_ID: tuple[frozenset[str], ...] = (frozenset({"id", "key", "code"}),)
_TITLES = (
    frozenset({"title"}),
    _words(
        "itemtitle itemname movietitle movie productname producttitle prodname booktitle trackname tracktitle songname "
        "songtitle videotitle articletitle headline displayname gametitle gamename appname originaltitle"
    ),
    frozenset({"name", "label"}),
)
_IMAGES = (
    frozenset({"imagepath", "image"}),
    frozenset({"imagefile", "imagefilename", "picture", "picturepath", "photo", "photopath", "img", "imgpath"}),
    frozenset({"poster", "posterpath", "cover", "coverpath", "thumbnail", "imageurl", "imgurl"}),
)


def strip_type(name: str) -> str:
    """A column's name without RecBole's type: `user_id:token` is `user_id`."""
    return _RECBOLE_TYPE.sub("", name)


def normalize_name(name: str) -> str:
    """The form in which names are compared: no type, case, punctuation."""
    return "".join(letter for letter in strip_type(name).casefold() if letter.isalnum())


def name_uniquely(header: Sequence[str]) -> list[str]:
    """Names for the columns of a frame: the header's, with a number behind a name that came before."""
    names: list[str] = []
    taken = set(header)
    for name in header:
        unique, number = name, 2
        while unique in names or (unique != name and unique in taken):
            unique, number = f"{name}_{number}", number + 1
        names.append(unique)
    return names


def recognize_columns(header: Sequence[str], config: IngestConfig, where: str) -> dict[Role, str]:
    """The column of each role that `header` has; named as `name_uniquely` names it.

    Raises LogError where the user or the item is missing, or where two columns could be one role; the message names
    the option that settles it. `where` names the file in messages.
    """
    options: Mapping[Role, str] = {
        "user": config.user_column,
        "item": config.item_column,
        "time": config.time_column,
        "kind": config.kind_column,
        "weight": config.weight_column,
    }
    unique = name_uniquely(header)
    chosen: dict[Role, str] = {}
    taken = {find_named(header, options[role], f"ingest.{role}_column", where) for role in ROLES if options[role]}
    for role in ROLES:
        if options[role]:
            place: int | None = find_named(header, options[role], f"ingest.{role}_column", where)
        else:
            free = [place for place in range(len(header)) if place not in taken]
            place = find_recognized(header, free, _NAMES[role], (f"the {role}", f"ingest.{role}_column", where))
        if place is not None:
            chosen[role] = unique[place]
    twice = [name for name, n in Counter(chosen.values()).items() if n > 1]
    if twice:
        roles = " and ".join(role for role, name in chosen.items() if name == twice[0])
        raise LogError(f"column {twice[0]!r} of {where} is set for {roles}", "a column for each")
    for role in ("user", "item"):
        if role not in chosen:
            raise LogError(
                f"{where} has no column that looks like the {role}; it has: {list_names(header)}",
                f"a header with a column such as {role}_id",
                f"name it with: --set ingest.{role}_column=NAME",
            )
    return chosen


def find_named(header: Sequence[str], wanted: str, option: str, where: str) -> int:
    """The place of the column that the user named, its RecBole type left out or not. Raises LogError."""
    places = [place for place, name in enumerate(header) if name == wanted]
    places = places or [place for place, name in enumerate(header) if strip_type(name) == wanted]
    if len(places) == 1:
        return places[0]
    found = "no column" if not places else f"{len(places)} columns"
    raise LogError(f"{where} has {found} {wanted!r} ({option}); it has: {list_names(header)}")


def find_recognized(
    header: Sequence[str], free: Sequence[int], ranks: Sequence[frozenset[str]], words: tuple[str, str, str]
) -> int | None:
    """The one place among `free` whose name is of the first rank that has any; None where no rank has.

    `words` are for the message: what is looked for, the option that settles it, the file. Raises LogError for two.
    """
    for rank in ranks:
        places = [place for place in free if normalize_name(header[place]) in rank]
        if len(places) > 1:
            what, option, where = words
            names = [strip_type(header[place]) for place in places]
            raise LogError(
                f"{len(places)} columns of {where} could be {what}: {', '.join(map(repr, names))}",
                "one",
                f"choose with: --set {option}={names[0]}",
            )
        if places:
            return places[0]
    return None


def find_id(header: Sequence[str], role: Literal["user", "item"], known: Sequence[str], where: str) -> int:
    """The place of the id in an attribute file: a column named as one of `known` (set, or chosen in the log), else
    recognized. Raises LogError where there is none, or two."""
    for name in known:
        places = [place for place, column in enumerate(header) if strip_type(column) == strip_type(name)]
        if len(places) == 1:
            return places[0]
    words = (f"the {role}'s id", f"ingest.{role}_column", where)
    place = find_recognized(header, range(len(header)), (*_NAMES[role][:2], *_LONE_ID), words)
    if place is None:
        raise LogError(
            f"{where} has no column that looks like the {role}'s id; it has: {list_names(header)}",
            f"a header with a column such as {role}_id",
        )
    return place


def find_title(header: Sequence[str], free: Sequence[int]) -> int | None:
    """The place of the items' titles; of two, the one with the plainer name, and of those the first."""
    return _find_first(header, free, _TITLES)


def find_image(header: Sequence[str], free: Sequence[int], wanted: str, where: str) -> int | None:
    """The place of the paths of pictures: as named, else recognized, else None. Raises LogError for a wrong name."""
    if wanted:
        return find_named(header, wanted, "images.column", where)
    return _find_first(header, free, _IMAGES)


def has_roles(header: Sequence[str]) -> bool:
    """Whether some column looks like a user and some other like an item: is this line a header?"""
    names = [normalize_name(name) for name in header]
    return any(n in r for n in names for r in _NAMES["user"]) and any(n in r for n in names for r in _NAMES["item"])


def list_names(header: Sequence[str]) -> str:
    """The columns of a header for a message, long lists cut."""
    shown = ", ".join(repr(strip_type(name)[:60]) for name in header[:30])
    return shown + (f" and {len(header) - 30} more" if len(header) > 30 else "")


def _find_first(header: Sequence[str], free: Sequence[int], ranks: Sequence[frozenset[str]]) -> int | None:
    for rank in ranks:
        for place in free:
            if normalize_name(header[place]) in rank:
                return place
    return None
