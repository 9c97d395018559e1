"""What the recipe chooses on the training part of one split, with some settings given: prints one JSON line.

The test part plays no role, and of a split that has two files the other is not opened.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.quality.peer import read_train
from benchmarks.quality.published import DATA
from recsys_cl.config import Config, apply_settings
from recsys_cl.recipe import choose_plan


def main(root: Path, data: str, settings: list[str]) -> None:
    """Choose, and tell how good it is on validation."""
    ordered = "--sequences" in DATA[data].files
    forced = ["split.by=leave_last", "split.n_last=1"] if ordered else ["split.by=random"]
    config = apply_settings(Config(), [*settings, *forced])
    train = read_train(root, data)
    started = time.perf_counter()
    plan = choose_plan(train, config)
    members = [member.kind for member in plan.members]
    print(json.dumps(plan.validation | {"seconds": time.perf_counter() - started, "members": members}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
