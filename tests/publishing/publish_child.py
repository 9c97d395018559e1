# ruff: noqa: T201
"""Publish releases of seeds 1, 2, 3 … into a store until killed, or once where a seed is given: STORE FOLDER [SEED]."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from small_release import World, make_facts, make_parts

from recsys_cl.errors import RecsysError
from recsys_cl.publishing.release import publish_release

store, folder = Path(sys.argv[1]), Path(sys.argv[2])
worlds = [World(seed=int(sys.argv[3]))] if len(sys.argv) > 3 else [World(seed=seed) for seed in range(1, 4)]
made = [(make_parts(folder / str(world.seed), world), make_facts(world)) for world in worlds]
print("ready", flush=True)
try:
    for n in count():
        print(publish_release(*made[n % len(made)], store), flush=True)
        if len(made) == 1:
            break
except RecsysError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
