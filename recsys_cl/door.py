"""What the command line and the flows share: comes in what was asked for, goes out a run to work on and an exit code.

Nothing heavy is imported before it is needed, so that `--help` answers at once. Exit codes: 0 done, 1 a gate or an
audit said no, 2 something the user can mend, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError

from recsys_cl.errors import ConfigError, InputError, InterruptedRunError, RecsysError

if TYPE_CHECKING:
    from recsys_cl.config import Config
    from recsys_cl.runs import Run


def run_app(app: App, tokens: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Prints one line, never a traceback, for anything a user can cause."""
    app.suppress_keyboard_interrupt = False  # cyclopts would end the process without a word
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that is not UTF-8 gets escapes for what it cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(str(error), 2)
    except RecsysError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read our output is gone; pointing it nowhere keeps the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left half-written; run the command again", 130)
    except MemoryError:
        return _fail("out of memory; lower ingest.batch_rows, ingest.bucket_rows or training.batch_users", 2)
    except OSError as error:
        return _fail(_explain_system(error), 2)
    return 0


def _explain_system(error: OSError) -> str:
    """What the system refused, and what to do about it; of a disk that filled up it does not always name the file."""
    said = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "a file of the store, or of the folder for temporary files"
        return f"{where} cannot be written ({said}); free some space there, and run the command again"
    return f"{error.filename or 'a file'}: {said}"


def load_config(path: Path | None, settings: Sequence[str] = (), store: Path | None = None) -> Config:
    """The configuration in a file, or the defaults, with settings and a store laid over it. Raises ConfigError."""
    from recsys_cl.config import Config, apply_settings, format_value, read_config

    config = apply_settings(read_config(path) if path else Config(), settings)
    return config if store is None else apply_settings(config, [f"publishing.store={format_value(str(store))}"])


def check_log_given(config: Config) -> None:
    """Raise ConfigError where no log is given."""
    if not config.ingest.log:
        raise ConfigError("no log to read", "--log PATH or ingest.log in the configuration, or --run RUN_ID")


@contextlib.contextmanager
def start_run(config: Config) -> Iterator[Run]:
    """A new run to work on; see `hold_run`. One that could not even read its log is taken away again.

    Raises ConfigError where no log is given, StoreError where the store cannot be written.
    """
    from recsys_cl.interrupts import hold_run
    from recsys_cl.runs import create_run

    check_log_given(config)
    run = create_run(Path(config.publishing.store), config)
    try:
        with hold_run(run):
            yield run
    except InputError:
        run.discard_unread()
        raise


@contextlib.contextmanager
def resume_or_start(config: Config) -> Iterator[Run]:
    """The run of exactly this configuration that a killed process has left, or one that was refused, as long as the
    files are as it has read them; else a new one. A run that is live, and holds what lies there, is given as it is.

    Raises as `start_run`, and StoreError where another process works on it."""
    from recsys_cl.interrupts import hold_run
    from recsys_cl.resuming import find_left, holds_log

    left = find_left(config) if config.ingest.log else None
    with contextlib.ExitStack() as stack:
        if left is not None:
            stack.enter_context(hold_run(left))
            if not left.is_done("ingest") or holds_log(left):
                left.remove_leftovers()
                yield left
                return
            stack.close()
        yield stack.enter_context(start_run(config))


@contextlib.contextmanager
def continue_run(
    path: Path | None, settings: Sequence[str], store: Path | None, run_id: str | None = None
) -> Iterator[Run]:
    """The run with this id, or the newest unfinished one of the store, to go on with; see `hold_run`.

    path: its configuration from now on, else its own; settings are laid over it. Raises ConfigError and StoreError.
    """
    from recsys_cl.config import apply_settings
    from recsys_cl.interrupts import hold_run
    from recsys_cl.runs import open_run, reconfigure

    found = open_run(Path(load_config(path, (), store).publishing.store), run_id)
    wanted = load_config(path) if path else found.config
    run = reconfigure(found, apply_settings(wanted, settings))
    run.remove_leftovers()
    with hold_run(run):
        yield run


@contextlib.contextmanager
def continue_published(path: Path, store: Path | None = None) -> Iterator[Run]:
    """The run that made the live release, with the [images] section of the configuration at `path`, to train on
    pictures and to publish again. Raises ConfigError and StoreError."""
    from recsys_cl.interrupts import hold_run
    from recsys_cl.publishing.seal import read_manifest
    from recsys_cl.publishing.store import find_releases, read_current
    from recsys_cl.runs import open_run, reconfigure

    config = load_config(path, ["images.enabled=true"], store)
    place = Path(config.publishing.store)
    live = read_manifest(find_releases(place) / read_current(place))
    found = open_run(place, live.run_id)
    run = reconfigure(found, found.config.model_copy(update={"images": config.images}))
    run.remove_leftovers()
    with hold_run(run):
        yield run


def print_answer(as_json: bool, value: Any, text: str) -> None:
    """Print what a command found: `value` for programs, `text` for people."""
    print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)  # noqa: T201


def read_id_file(path: Path, what: str, of: str = "item_id") -> list[str]:
    """The ids in a text file, one a line, empty lines left out; `what` names it. Raises InputError where it is none."""
    expected = f"a text file, one {of} a line"
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would cut ids at rarer separators
    except UnicodeDecodeError:
        raise InputError(f"{what} in {path} is not UTF-8 text", expected) from None
    except OSError as error:
        raise InputError(f"{what} in {path} cannot be read ({error.strerror})", expected) from error
    return [found for line in lines if (found := line.removesuffix("\r"))]


def _fail(message: str, code: int) -> int:
    print(f"recsys-cl: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    if code == InterruptedRunError.exit_code:
        # Where ctrl-C hit inside an exec of text (dataclasses and torch have some), CPython remembers it until the next
        # one, and a `python -m` then dies of the signal in the end, whatever its exit code.
        exec("")
    return code
