"""From user interaction logs to a live nearest-neighbor index.

>>> import recsys_cl
>>> outcome = recsys_cl.run({"training": {"seed": 1}}, interactions, store="data")   # a pandas or polars frame
>>> release = recsys_cl.open_release("data")
>>> release.neighbors(["i00042"], k=5)
>>> release.recommend(history=["i00042", "i00007"])
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_cl.library import run
    from recsys_cl.serving.lookup import Release, open_release

__version__ = version("recsys_cl")
__all__ = ["Release", "__version__", "open_release", "run"]


def __getattr__(name: str) -> Any:
    # Late, so that `recsys-cl --help` and a lookup import no more than they need.
    if name == "run":
        from recsys_cl.library import run

        return run
    if name in ("open_release", "Release"):
        from recsys_cl.serving import lookup

        return getattr(lookup, name)
    raise AttributeError(f"module 'recsys_cl' has no attribute {name!r}")
