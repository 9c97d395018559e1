"""The configuration in words: the commented TOML file that `init` writes, and docs/configuration.md.

Both are generated from the field descriptions of the config classes: `python -m recsys_cl.config_docs > FILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recsys_cl.config import Config, format_value
from recsys_cl.errors import InputError
from recsys_cl.files import write_text
from recsys_cl.interactions.sample import write_sample
from recsys_cl.interactions.world import WorldConfig
from recsys_cl.progress import Progress, report_nothing

_SAMPLE_SETTINGS = {
    ("ingest", "log"): "events.csv",
    ("ingest", "items"): "items.csv",
    ("ingest", "users"): "users.csv",
    ("publishing", "store"): "store",
}
_HEAD = """\
# A run of recsys_cl. Lines that start with `#` show the defaults: take the `#` away to change one.
# Relative paths are taken from the folder of this file.
"""


def render_toml() -> str:
    """A configuration for the sample, every other setting shown as a comment with its default and meaning."""
    lines = [_HEAD]
    for section, model in _sections():
        lines += [f"# {_first_line(model)}", f"[{section}]"]
        for key, value in model.model_dump(mode="json").items():
            description = type(model).model_fields[key].description or ""
            chosen = _SAMPLE_SETTINGS.get((section, key))
            text = format_value(value if chosen is None else chosen)
            lines.append(f"{'# ' if chosen is None else ''}{key} = {text}  # {description}")
        lines.append("")
    return "\n".join(lines)


def render_markdown() -> str:
    """All sections as tables: key, type, default, meaning."""
    lines = [
        "# Configuration",
        "",
        "Generated from the config classes by `python -m recsys_cl.config_docs`. A configuration is a TOML file with",
        "the sections below; every key may be left out, unknown keys are refused. On the command line a setting is",
        "given as `--set section.key=value`. Relative paths in a file are taken from the folder of the file. `${NAME}`",
        "in a database URL is read from the environment when it is used, and never stored.",
        "",
    ]
    for section, model in _sections():
        lines += [
            f"## [{section}]",
            "",
            _first_line(model),
            "",
            "| key | type | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        schema = type(model).model_json_schema()["properties"]
        for key, value in model.model_dump(mode="json").items():
            description = (type(model).model_fields[key].description or "").replace("|", "\\|")
            lines.append(f"| `{key}` | {_describe_type(schema[key])} | `{format_value(value)}` | {description} |")
        lines.append("")
    return "\n".join(lines)


def init_folder(folder: Path, progress: Progress = report_nothing) -> None:
    """Write config.toml and the sample log into a new or empty folder. Raises InputError where it holds anything."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty", "a new or empty folder", "choose another one")
    write_sample(folder, WorldConfig(), progress)
    write_text(folder / "config.toml", render_toml())


def _sections() -> list[tuple[str, BaseModel]]:
    config = Config()
    return [(name, getattr(config, name)) for name in Config.model_fields]


def _first_line(model: BaseModel) -> str:
    return (type(model).__doc__ or "").strip().splitlines()[0]


def _describe_type(schema: dict[str, Any]) -> str:
    """A field's type and bounds in words."""
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_describe_type(schema['items'])}"
    if schema.get("type") == "object":
        return "table of numbers"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema)
    return names[schema["type"]] + (f" {limits}" if limits else "")


if __name__ == "__main__":
    sys.stdout.write(render_markdown())
