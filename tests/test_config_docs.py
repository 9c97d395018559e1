"""What the documentation and the sample's configuration say is what the config classes are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recsys_cl.config import Config, build_config, read_config
from recsys_cl.config_docs import init_folder, render_markdown, render_toml
from recsys_cl.errors import InputError

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "sample"


def test_the_tracked_documentation_is_what_the_config_classes_say() -> None:
    """Where this fails: make docs."""
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == render_markdown()
    done = subprocess.run(
        [sys.executable, "-m", "recsys_cl.config_docs"], capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.stdout == render_markdown(), done.stderr


def test_the_tracked_configuration_of_the_sample_is_what_the_config_classes_say() -> None:
    assert (SAMPLE / "config.toml").read_text(encoding="utf-8") == render_toml()


def test_every_key_is_documented_once_with_its_type_default_and_meaning() -> None:
    text = render_markdown()
    sections = dict(zip(*[iter(re.split(r"^## \[(\w+)\]$", text, flags=re.MULTILINE)[1:])] * 2, strict=True))
    assert list(sections) == list(Config.model_fields)
    for section, body in sections.items():
        rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in body.splitlines() if line.startswith("| `")]
        fields = type(getattr(Config(), section)).model_fields
        assert [row[0] for row in rows] == [f"`{key}`" for key in fields]
        for _, kind, default, meaning in rows:
            assert kind
            assert default.startswith("`")
            assert meaning.endswith(".")
    assert "| `temperature` | number ≥ 0.001, ≤ 10 | `0.2` | Divisor of the score. |" in text
    assert '| `by` | `time`, `leave_last`, `random`, `file` | `"time"` |' in text
    assert "| `ks` | list of whole number ≥ 1 | `[5, 10, 20]` |" in text


def test_taking_every_comment_away_changes_no_setting(tmp_path: Path) -> None:
    text = render_toml()
    (tmp_path / "as_it_is.toml").write_text(text, encoding="utf-8")
    bare, n_lines = re.subn(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "bare.toml").write_text(bare, encoding="utf-8")
    n_keys = sum(len(values) for values in Config().model_dump().values())
    assert n_lines == n_keys - 4
    ingest = {"log": "events.csv", "items": "items.csv", "users": "users.csv"}
    expected = build_config(
        {
            "ingest": {name: str(tmp_path / path) for name, path in ingest.items()},
            "publishing": {"store": str(tmp_path / "store")},
        }
    )
    assert read_config(tmp_path / "as_it_is.toml") == expected
    given = read_config(tmp_path / "bare.toml")
    recipe = given.recipe.model_copy(update={"keep": expected.recipe.keep})  # what is given, the recipe keeps
    assert given.model_copy(update={"recipe": recipe}) == expected


def test_init_writes_the_tracked_sample(tmp_path: Path) -> None:
    told: list[float] = []
    init_folder(tmp_path / "new" / "shop", lambda what, done, total, note: told.append(done / total))
    assert told[-1] == 1.0
    ours, theirs = (
        {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "new" / "shop", SAMPLE)
    )
    assert ours.keys() == theirs.keys()
    for name, path in ours.items():
        if name.suffix == ".png":
            with Image.open(path) as made, Image.open(theirs[name]) as tracked:
                assert np.array_equal(np.asarray(made), np.asarray(tracked)), name
        else:
            assert path.read_bytes() == theirs[name].read_bytes(), name
    config = read_config(tmp_path / "new" / "shop" / "config.toml")
    assert all(Path(path).is_file() for path in (config.ingest.log, config.ingest.items, config.ingest.users))


@pytest.mark.parametrize("held", ["events.csv", ".hidden", "sample.json", "below/x"])
def test_init_touches_no_folder_that_holds_anything(tmp_path: Path, held: str) -> None:
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).write_text("mine")
    with pytest.raises(InputError, match="is not empty; expected a new or empty folder"):
        init_folder(tmp_path)
    with pytest.raises(InputError, match="is not empty"):
        init_folder(tmp_path / held)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / held]
    assert (tmp_path / held).read_text() == "mine"


def test_init_takes_an_empty_folder(tmp_path: Path) -> None:
    init_folder(tmp_path)
    assert (tmp_path / "config.toml").is_file()
