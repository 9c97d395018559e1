"""Everything this project raises on purpose.

    RecsysError                 base: one clear message; the command line exits with `exit_code`
    ├── InputError              the user gave something that cannot be used            (exit 2)
    │   ├── ConfigError         … in the configuration or an option
    │   ├── LogError            … in a log or an attribute file
    │   │   └── UnreachableError  … in a database that does not answer, is locked or broke off: it may answer later
    │   ├── PictureError        … a file that is no picture, or one that is refused
    │   ├── UnknownIdError      … an item_id or user_id that the release does not hold
    │   └── StoreError          … a store, run or release that is missing or cannot be read
    │       ├── SealError       … a release whose parts do not belong together
    │       ├── BusyError       … a store that another process works on: it may be free later
    │       └── MovedError      … a store in which another release went live meanwhile
    ├── MissingExtraError       the command needs an extra that is not installed        (exit 2)
    ├── RefusedError            a gate, an audit, a data contract or `verify` said no   (exit 1)
    └── InterruptedRunError     somebody pressed ctrl-C                                 (exit 130)

Each message names what was found, what was expected and what to do; the same values are attributes.
"""

from __future__ import annotations


class RecsysError(Exception):
    """Base of all errors raised on purpose.

    `found`, `expected` and `remedy` are the three parts of the message; the latter two may be empty.
    """

    exit_code = 2

    def __init__(self, found: str, expected: str = "", remedy: str = "") -> None:
        self.found, self.expected, self.remedy = found, expected, remedy
        parts = [found, f"expected {expected}" if expected else "", remedy]
        super().__init__("; ".join(part for part in parts if part))


class InputError(RecsysError):
    """The user gave something that cannot be used."""


class ConfigError(InputError):
    """The configuration, or an option on the command line, cannot be used."""


class LogError(InputError):
    """A log or an attribute file cannot be used."""


class UnreachableError(LogError):
    """A database does not answer, is locked, or broke off; it may answer later."""


class PictureError(InputError):
    """A file is no picture that can be used; `reason` is one word for it, by which refusals are counted."""

    def __init__(self, reason: str, found: str, expected: str = "", remedy: str = "") -> None:
        self.reason = reason
        super().__init__(found, expected, remedy)


class UnknownIdError(InputError):
    """An item_id or user_id is not in the release; `unknown_id` holds it."""

    def __init__(self, kind: str, unknown_id: str, release: str, remedy: str = "") -> None:
        self.kind, self.unknown_id, self.release = kind, unknown_id, release
        super().__init__(f"no {kind} {unknown_id!r} in release {release}", remedy=remedy)


class StoreError(InputError):
    """A store, a run or a release is missing, of another format, or cannot be read."""


class SealError(StoreError):
    """A release is not whole: a part is missing, changed, or of another release. `part` names the file."""

    def __init__(self, part: str, found: str, expected: str, remedy: str = "") -> None:
        self.part = part
        super().__init__(f"{part}: {found}", expected, remedy)


class BusyError(StoreError):
    """Another process works on a store; it may be free later."""


class MovedError(StoreError):
    """While a release was compared with the live one, another went live."""

    def __init__(self, store: object, live: str | None, beside: str | None) -> None:
        self.live, self.beside = live, beside
        super().__init__(
            f"{live or 'no release'} is live in {store} by now",
            f"{beside or 'none'}, beside which this one was judged",
            "nothing was published; try again when the other publisher has finished",
        )


class MissingExtraError(RecsysError):
    """A command needs an optional part of the package; `extra` names it."""

    def __init__(self, extra: str, missing: str) -> None:
        self.extra, self.missing = extra, missing
        super().__init__(
            f"this command needs {missing}, which is not installed",
            remedy=f"install it with: pip install 'recsys_cl[{extra}]'",
        )


class RefusedError(RecsysError):
    """A gate, an audit, a data contract or `verify` said no; `reasons` lists each reason with its figures."""

    exit_code = 1

    def __init__(self, what: str, reasons: list[str], remedy: str = "") -> None:
        self.what, self.reasons = what, reasons
        super().__init__(f"{what}: " + "; ".join(reasons), remedy=remedy)


class InterruptedRunError(RecsysError):
    """Somebody pressed ctrl-C; `remedy` says how to go on."""

    exit_code = 130
