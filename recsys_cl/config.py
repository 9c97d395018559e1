"""The configuration: every section in one; unknown keys are refused.

Comes in as a TOML file, a mapping, and `section.key=value` settings; goes out as one `Config`, whose fingerprint
names a run. The sections themselves are in `sections.py`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from recsys_cl.contract_section import ContractConfig
from recsys_cl.errors import ConfigError
from recsys_cl.files import dump_json, expand_home, hash_text
from recsys_cl.image_sections import ImagesConfig
from recsys_cl.learning_sections import LossConfig, ModelConfig, RecipeConfig, SamplingConfig, TrainingConfig
from recsys_cl.scheduled_sections import ExportConfig, NotifyConfig, ScheduleConfig
from recsys_cl.sections import EvaluationConfig, IndexConfig, IngestConfig, PublishingConfig, Section, SplitConfig

__all__ = [
    "Config",
    "ContractConfig",
    "EvaluationConfig",
    "ExportConfig",
    "ImagesConfig",
    "IndexConfig",
    "IngestConfig",
    "LossConfig",
    "ModelConfig",
    "NotifyConfig",
    "PublishingConfig",
    "RecipeConfig",
    "SamplingConfig",
    "ScheduleConfig",
    "SplitConfig",
    "TrainingConfig",
    "apply_settings",
    "build_config",
    "format_value",
    "hide_password",
    "is_url",
    "read_config",
]


class Config(Section):
    """Everything a run can be told."""

    ingest: IngestConfig = IngestConfig()
    split: SplitConfig = SplitConfig()
    sampling: SamplingConfig = SamplingConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    recipe: RecipeConfig = RecipeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    publishing: PublishingConfig = PublishingConfig()
    export: ExportConfig = ExportConfig()
    contract: ContractConfig = ContractConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    notify: NotifyConfig = NotifyConfig()
    images: ImagesConfig = ImagesConfig()

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        """Some losses have no lowest value, or one where all vectors are alike, under some scores."""
        kind, score = self.loss.kind, self.model.score
        if kind == "cosine_contrastive" and score != "cosine":
            raise ValueError(f"loss.kind is {kind}, which needs model.score=cosine; it is {score}")
        if kind == "bilateral_softmax" and score == "dot":
            raise ValueError(f"loss.kind is {kind}, which has no lowest value where model.score is dot")
        if kind == "cosine_contrastive" and self.model.learn_temperature:
            raise ValueError(f"loss.kind is {kind}, which looks at scores: there is no model.learn_temperature")
        return self

    @model_validator(mode="after")
    def _check_webhook(self) -> Self:
        if self.notify.webhook and not re.match(r"https?://|\$\{\w+\}", self.notify.webhook):
            raise ValueError("notify.webhook is neither a URL of http or https nor ${NAME} of the environment")
        return self

    def dump(self) -> dict[str, Any]:
        """What a run is told, as JSON values, the password of a database URL hidden. [notify] is left out: who is told
        of a run is none of its settings, and the address of a webhook is a secret."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude={"notify"})
        for section, key in _PATHS:
            values[section][key] = hide_password(values[section][key])
        return values

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that name this configuration; where it is stored plays no part."""
        values = self.dump()
        del values["publishing"]["store"]
        return hash_text(dump_json(values))[:12]


# Sections whose settings the recipe may choose, where they are not given.
_CHOSEN = ("sampling", "model", "loss", "training")
# Paths of a configuration file are relative to that file.
_PATHS = (
    ("ingest", "log"),
    ("ingest", "items"),
    ("ingest", "users"),
    ("split", "test"),
    ("publishing", "store"),
    ("images", "root"),
    ("images", "folder"),
    ("images", "onnx"),
)


def build_config(values: Mapping[str, Any]) -> Config:
    """Check a mapping of sections. Raises ConfigError naming each key that is wrong, and what it may be."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None


def read_config(path: Path) -> Config:
    """Read a TOML file; its relative paths are taken from its own folder. Raises ConfigError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration at {path}", remedy="make one with: recsys-cl init DIR") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML ({error})") from None
    for section, key in _PATHS:
        value = values.get(section, {}).get(key) if isinstance(values.get(section), dict) else None
        if isinstance(value, str) and value and not is_url(value):
            values[section][key] = str(path.parent / expand_home(value))
    for keys in values.values():
        if isinstance(keys, dict):  # TOML has dates of its own; here they are texts
            keys |= {key: value.isoformat() for key, value in keys.items() if isinstance(value, date | time)}
    return keep_settings(build_config(values), _list_given(values))


def apply_settings(config: Config, settings: Iterable[str]) -> Config:
    """Apply `section.key=value` settings; a value is TOML, or else the text itself. Raises ConfigError.

    Where a text is wanted, a number or a date is the text it was written as: `split.cut=2025-01-01`.
    """
    values, named = config.model_dump(), []
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, _, key = name.strip().partition(".")
        if not equals or section not in values or key not in values[section]:
            raise ConfigError(
                f"no setting {hide_password(repr(setting))}",
                "section.key=value",
                f"keys of a section: {_list_keys(values, section)}",
            )
        given = _parse_value(text.strip())
        plain = isinstance(values[section][key], str) and not isinstance(given, str | list | dict)
        values[section][key] = text.strip() if plain else given
        named.append(f"{section}.{key}")
    return keep_settings(build_config(values), named)


def keep_settings(config: Config, names: Iterable[str]) -> Config:
    """The same, and the recipe changes none of the settings of these names."""
    kept = {*config.recipe.keep, *(name for name in names if name.partition(".")[0] in _CHOSEN)}
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"keep": tuple(sorted(kept))})})


def _list_given(values: Mapping[str, Any]) -> list[str]:
    return [f"{section}.{key}" for section, keys in values.items() if isinstance(keys, dict) for key in keys]


def format_value(value: Any) -> str:
    """A JSON value as TOML, so that `section.key=` and this is a setting that gives the value back."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{format_value(key)} = {format_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def is_url(text: str) -> bool:
    """Whether a log is named by a database URL instead of a path."""
    return re.match(r"^[A-Za-z][\w+.-]*://", text) is not None


def hide_password(text: str) -> str:
    """A database URL with its passwords replaced by `***`; `${NAME}` stays, for it tells nothing.

    Rather too much is hidden than too little: a password may hold an `@`, or be among the parameters.
    """
    text = re.sub(r"(://[^:/@]*:)(?!\$\{\w+\}@[^@]*$).*@", r"\1***@", text, flags=re.DOTALL)
    secret = r"([?&;][^=&;]*(?:passw|pwd|secret|token|key|odbc_connect)[^=&;]*=)(?!\$\{\w+\}(?:[&;]|$))[^&;]*"
    return re.sub(secret, r"\1***", text, flags=re.IGNORECASE)


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, a number of thousands of digits, or nested beyond measure
        return text


def _list_keys(values: Mapping[str, Any], section: str) -> str:
    return ", ".join(f"{section}.{key}" for key in values[section]) if section in values else ", ".join(values)


def _explain(problem: Any) -> str:
    if problem["type"] == "value_error" and len(problem["loc"]) < 2:  # settings that do not go together
        return str(problem["msg"]).removeprefix("Value error, ")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parent: Any = Config
        for part in problem["loc"][:-1]:
            parent = parent.model_fields[part].annotation
        return f"no setting {where!r}, expected one of: {', '.join(parent.model_fields)}"
    if problem["type"] in ("model_type", "dict_type") and len(problem["loc"]) == 1:
        return f"{where} is {hide_password(repr(problem['input']))}, expected a section: [{where}], then key = value"
    return f"{where} is {hide_password(repr(problem['input']))}: {problem['msg']}"
