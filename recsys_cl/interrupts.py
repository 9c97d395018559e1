"""Ctrl-C: comes in as a signal at any moment of the work on a run, goes out as one error that says how to go on.

KeyboardInterrupt alone is not enough: libraries turn it into errors of their own (torch's exporter does), or lose it.
So the signal is remembered, and whatever comes out of the work after it is an interruption.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from recsys_cl.errors import InterruptedRunError
from recsys_cl.runs import Run, claim_run


class _Watch:
    """A handler of SIGINT that raises KeyboardInterrupt, as Python's own does, and remembers that it did."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.pressed = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def hold_run(run: Run) -> Iterator[None]:
    """Work on a run; may be nested. Raises StoreError where another process works on it; InterruptedRunError, and
    nothing else, once ctrl-C has been pressed."""
    with claim_run(run), _watch() as watch:
        try:
            yield
        except InterruptedRunError:
            raise
        except BaseException as error:  # a panic of polars is no Exception
            if watch.pressed or isinstance(error, KeyboardInterrupt):
                raise _explain(run) from None
            raise
        if watch.pressed:
            raise _explain(run)


@contextlib.contextmanager
def _watch() -> Iterator[_Watch]:
    """The watch that is on duty, or a new one. Elsewhere than in the main thread, and where the process ignores ctrl-C
    or has its own handler, nothing is changed."""
    former = signal.getsignal(signal.SIGINT)
    if isinstance(former, _Watch):
        yield former
    elif former is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield _Watch()
    else:
        watch = _Watch()
        signal.signal(signal.SIGINT, watch)
        try:
            yield watch
        finally:
            signal.signal(signal.SIGINT, former)


def _explain(run: Run) -> InterruptedRunError:
    stages = run.read_stages()
    stage = next((stage for stage in run.stages if stage not in stages), "")
    where = f" in {stage}" if stage else ""
    return InterruptedRunError(f"interrupted{where}", remedy=f"go on with: {run.resume_command}")
