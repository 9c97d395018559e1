"""The command that answers over HTTP."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from recsys_cl.errors import MissingExtraError
from recsys_cl.options import ServeOptions, Store
from recsys_cl.serving.limits import Limits

_HERE, _BOUNDS = ServeOptions(), Limits()


def serve(*, store: Store = Path("data"), options: ServeOptions = _HERE, limits: Limits = _BOUNDS) -> None:
    """Answer over HTTP from the live release of a store, and from the next as soon as it is live.

    Example: `recsys-cl serve --store data --port 8000`, then `curl 127.0.0.1:8000/items/i00042/neighbors?k=5`

    Ends on ctrl-C or SIGTERM. With --json, each line is a JSON object. All addresses: `/openapi.json`.
    """
    try:
        importlib.import_module("python_multipart")  # needed for pictures, and not missed before the first one
        from recsys_cl.serving import server
    except ModuleNotFoundError as error:
        raise MissingExtraError("serve", error.name or "fastapi") from None

    def say(event: dict[str, Any]) -> None:
        print(json.dumps(event) if options.as_json else server.describe_event(event), flush=True)

    address = server.Address(options.host, options.port, options.token_file, options.allow_anonymous)
    server.serve(store, address, limits, say, log=not options.quiet)
