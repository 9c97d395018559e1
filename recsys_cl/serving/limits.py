"""Bounds of the service: what one request may ask for, and how many are answered at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from recsys_cl.errors import ConfigError, InputError
from recsys_cl.machine import count_cores

TOLD = ("most_k", "most_history", "most_batch", "most_body_bytes", "most_pixels")
"""Those that whoever asks can keep to."""


@Parameter(name="*")
@dataclass(frozen=True)
class Limits:
    """What the service answers; each also an option of `recsys-cl serve`. Raises ConfigError for one below 1."""

    most_k: Annotated[int, Parameter(help="Answers to one request.")] = 1_000
    most_history: Annotated[int, Parameter(help="Items of a history.")] = 1_000
    most_batch: Annotated[int, Parameter(help="Requests in one of a batch.")] = 100
    most_body_bytes: Annotated[int, Parameter(help="Bytes of a body.")] = 1_000_000
    most_pixels: Annotated[int, Parameter(help="Pixels of an uploaded picture.")] = 16_000_000
    most_running: Annotated[int, Parameter(help="Requests answered at a time; more are told to come again.")] = 64
    most_seconds: Annotated[float, Parameter(help="Seconds that a request, and first its head, may take.")] = 10.0
    threads: Annotated[int | None, Parameter(help="Threads that compute (default: one for each core).")] = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0.01 if name == "most_seconds" else 1
            if value is not None and not value >= least:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}", f"at least {least}")

    @property
    def n_threads(self) -> int:
        """Threads that compute."""
        return self.threads or count_cores()

    def check_k(self, k: int) -> None:
        """Raise InputError for more answers than one request may ask for."""
        if k > self.most_k:
            raise InputError(f"k is {k}", f"at most {self.most_k}", "ask for fewer")

    def check_history(self, n: int) -> None:
        """Raise InputError for a history that is too long."""
        if n > self.most_history:
            raise InputError(f"the history has {n} items", f"at most {self.most_history}", "leave out the oldest")

    def check_batch(self, n: int) -> None:
        """Raise InputError for a batch that is empty or too long."""
        if not 1 <= n <= self.most_batch:
            raise InputError(f"the batch has {n} requests", f"1 to {self.most_batch}", "split it")
