"""The configuration takes what it describes, and names whatever else it is given, without ever telling a password."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys_cl.config import Config, apply_settings, build_config, format_value, hide_password, is_url, read_config
from recsys_cl.door import load_config
from recsys_cl.errors import ConfigError
from recsys_cl.files import dump_json
from recsys_cl.options import Inputs
from recsys_cl.runs import create_run, open_run

DEFAULTS = Config().model_dump()
KEYS = [(section, key) for section, values in DEFAULTS.items() for key in values]
OTHER: dict[tuple[str, str], Any] = {
    ("ingest", "format"): "jsonl",
    ("ingest", "window"): "2026-11-26T03",
    ("contract", "on_change"): "stop",
    ("ingest", "delimiter"): ";",
    ("ingest", "time_unit"): "ms",
    ("ingest", "duplicates"): "pair",
    ("ingest", "kind_weights"): {"view": 1.0, "ünï": 2.5},
    ("split", "by"): "random",
    ("sampling", "positives"): "next",
    ("sampling", "negatives"): "mixed",
    ("model", "score"): "dot",
    ("model", "history"): "gru",
    ("loss", "kind"): "bpr",
    ("training", "schedule"): "cosine",
    ("training", "precision"): "bfloat16",
    ("recipe", "towers"): ("linear",),
    ("recipe", "temperatures"): (0.3,),
    ("recipe", "neighbor_weights"): (0.7,),
    ("recipe", "voice_powers"): (0.4, 0.6),
    ("recipe", "popularity_weights"): (0.9,),
    ("recipe", "bag_learning_rate"): 0.03,
    ("recipe", "ridges"): (7.0, 70.0),
    ("recipe", "blend_weights"): (1.5,),
    ("recipe", "keep"): ("model.temperature",),
    ("evaluation", "ks"): (3, 30),
    ("index", "kind"): "hnsw",
    ("export", "what"): ("neighbors", "recommendations"),
    ("notify", "webhook"): "https://hooks.example/${KEY}",
    ("notify", "command"): ("mail", "-s", "recsys_cl"),
    ("notify", "states"): ("running", "completed"),
    ("images", "channels"): 1,
    ("images", "encoder"): "resnet18",
    ("images", "onnx_mean"): (0.5, 0.25, 0.125),
    ("images", "onnx_std"): (0.5,),
    ("images", "score"): "euclidean",
}


def choose_other(section: str, key: str) -> Any:
    """A value of the field that is allowed and is not its default."""
    value = DEFAULTS[section][key]
    if (section, key) in OTHER:
        return OTHER[section, key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value / 2 + 0.01 if isinstance(value, float) else "/somewhere/else"


def iterate_fields() -> Iterator[tuple[str, str, Any]]:
    for section in Config.model_fields:
        model = type(getattr(Config(), section))
        for key, field in model.model_fields.items():
            yield section, key, field


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_setting_goes_through_a_file_the_command_line_and_json(tmp_path: Path, section: str, key: str) -> None:
    value = choose_other(section, key)
    (tmp_path / "c.toml").write_text(f"[{section}]\n{key} = {format_value(value)}\n", encoding="utf-8")
    read = read_config(tmp_path / "c.toml")
    assert getattr(getattr(read, section), key) == value
    assert apply_settings(Config(), [f"{section}.{key}={format_value(value)}"]) == read
    if section != "notify":  # is no setting of a run
        assert build_config(read.dump()) == read
    assert build_config(read.model_dump()) == read
    told = section in ("sampling", "model", "loss", "training")
    if key != "keep":
        assert read.recipe.keep == ((f"{section}.{key}",) if told else ()), "what is given is kept by the recipe"
    others = {
        place: getattr(getattr(read, place[0]), place[1])
        for place in KEYS
        if place not in ((section, key), ("recipe", "keep"))
    }
    assert others == {place: DEFAULTS[place[0]][place[1]] for place in others}
    dump_json(read.dump())


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_fingerprint_depends_on_every_setting_but_not_on_the_store_and_who_is_told(section: str, key: str) -> None:
    changed = build_config({section: {key: choose_other(section, key)}})
    assert (changed.fingerprint == Config().fingerprint) == (
        section == "notify" or (section, key) == ("publishing", "store")
    )
    assert len(changed.fingerprint) == 12


def test_the_sections_are_those_that_are_promised() -> None:
    promised = (
        "ingest split sampling model loss training recipe evaluation index publishing export contract schedule "
        "notify images"
    )
    assert list(Config.model_fields) == promised.split()
    assert Config().training.seed == 0


def test_every_field_says_what_it_means() -> None:
    for section, key, field in iterate_fields():
        text = field.description or ""
        assert text.endswith("."), f"{section}.{key}: {text!r}"
        assert len(text) > 10, f"{section}.{key}: {text!r}"


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"schooling": {}}, ["no setting 'schooling'", "training, recipe, evaluation"]),
        ({"training": {"epoch": 3}}, ["no setting 'training.epoch'", "seed, epochs, "]),
        ({"training": {"epochs": 0}}, ["training.epochs is 0", "greater than or equal to 1"]),
        ({"training": {"epochs": "many"}}, ["training.epochs is 'many'", "valid integer"]),
        ({"training": {"epochs": "3"}}, ["training.epochs is '3'", "valid integer"]),
        ({"training": {"epochs": True}}, ["training.epochs is True", "valid integer"]),
        ({"training": {"epochs": 1.5}}, ["training.epochs is 1.5", "valid integer"]),
        ({"training": {"seed": 2**31}}, ["training.seed is 2147483648", "less than or equal to 2147483647"]),
        ({"training": 3}, ["training is 3", "expected a section: [training]"]),
        ({"model": {"temperature": 0.0}}, ["model.temperature is 0.0", "greater than or equal to 0.001"]),
        ({"model": {"temperature": math.nan}}, ["model.temperature is nan", "finite"]),
        ({"ingest": {"least_rating": math.inf}}, ["ingest.least_rating is inf", "finite"]),
        (
            {"ingest": {"kind_weights": {"view": 0}}},
            ["ingest.kind_weights.view is 0", "greater than or equal to 0.000001"],
        ),
        ({"ingest": {"kind_weights": {"view": math.inf}}}, ["ingest.kind_weights.view is inf", "finite"]),
        (
            {"loss": {"kind": "cosine_contrastive"}, "model": {"score": "euclidean"}},
            ["loss.kind is cosine_contrastive", "model.score=cosine", "it is euclidean"],
        ),
        ({"loss": {"kind": "bilateral_softmax"}, "model": {"score": "dot"}}, ["no lowest value", "model.score is dot"]),
        (
            {"loss": {"kind": "cosine_contrastive"}, "model": {"learn_temperature": True}},
            ["no model.learn_temperature"],
        ),
        ({"ingest": {"format": "xml"}}, ["ingest.format is 'xml'", "'auto', 'csv', 'parquet', 'jsonl' or 'lines'"]),
        ({"ingest": {"delimiter": "ab"}}, ["ingest.delimiter is 'ab'", "at most 1"]),
        ({"ingest": {"quoted": "yes"}}, ["ingest.quoted is 'yes'", "valid boolean"]),
        ({"ingest": {"log": 5}}, ["ingest.log is 5", "valid string"]),
        ({"ingest": {"log": "a\0b"}}, ["ingest.log is", "NUL"]),
        ({"ingest": {"log": "\udcff.csv"}}, ["ingest.log is '\\udcff.csv'", "not valid UTF-8"]),
        ({"evaluation": {"ks": [5, 0]}}, ["evaluation.ks.1 is 0", "greater than or equal to 1"]),
        ({"evaluation": {"ks": []}}, ["evaluation.ks is []", "at least 1"]),
        ({"evaluation": {"ks": 5}}, ["evaluation.ks is 5", "tuple"]),
        ({"export": {"what": ["all"]}}, ["export.what.0 is 'all'", "'recommendations' or 'neighbors'"]),
    ],
)
def test_what_is_wrong_is_named_with_what_it_may_be(values: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(values)
    for part in parts:
        assert part in str(caught.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"model\.dim is 1.*; training\.epochs is 0"):
        build_config({"training": {"epochs": 0}, "model": {"dim": 1}})


@pytest.mark.parametrize(
    ("setting", "section", "key", "value"),
    [
        ("split.cut=2025-01-01", "split", "cut", "2025-01-01"),
        ("split.cut='2025-01-01'", "split", "cut", "2025-01-01"),
        ("ingest.since=2025-01-01T00:00:00Z", "ingest", "since", "2025-01-01T00:00:00Z"),
        ("ingest.user_column=1", "ingest", "user_column", "1"),
        ("ingest.user_column=true", "ingest", "user_column", "true"),
        ("ingest.delimiter=;", "ingest", "delimiter", ";"),
        ('ingest.delimiter="\\t"', "ingest", "delimiter", "\t"),
        ("ingest.query=SELECT a FROM b WHERE c = 'd'", "ingest", "query", "SELECT a FROM b WHERE c = 'd'"),
        ("ingest.log=C:\\temp\\a=b.csv", "ingest", "log", "C:\\temp\\a=b.csv"),
        (" training.epochs = 7 ", "training", "epochs", 7),
        ("model.temperature=1", "model", "temperature", 1.0),
        ("evaluation.ks=[1, 2]", "evaluation", "ks", (1, 2)),
        ("ingest.kind_weights={view = 1, like = 2.5}", "ingest", "kind_weights", {"view": 1.0, "like": 2.5}),
    ],
)
def test_a_setting_is_toml_or_else_the_text_itself(setting: str, section: str, key: str, value: Any) -> None:
    assert getattr(getattr(apply_settings(Config(), [setting]), section), key) == value


def test_later_settings_win() -> None:
    assert apply_settings(Config(), ["training.epochs=2", "training.epochs=3"]).training.epochs == 3


@pytest.mark.parametrize("setting", ["epochs=3", "training=3", "training.=3", "training.epochs", "", "=", "a.b.c=1"])
def test_a_setting_of_no_name_lists_what_there_is(setting: str) -> None:
    known = "training.seed, training.epochs, " if setting.startswith("training") else "ingest, split, sampling"
    with pytest.raises(ConfigError, match=f"no setting {setting!r}; expected section.key=value; .*{known}"):
        apply_settings(Config(), [setting])


NAMES = st.sampled_from([f"{section}.{key}" for section, key in KEYS]) | st.text(max_size=8)
VALUES = st.text(max_size=30) | st.sampled_from(["nan", "inf", "-1", "1e999", "[]", "{}", '""', "true", "00:00:00"])


@given(name=NAMES, value=VALUES)
@example(name="training.epochs", value="9" * 5000)
@example(name="training.epochs", value="[" * 5000)
@example(name="ingest.log", value="[" * 5000)
@example(name="evaluation.ks", value="[1, 1e400]")
@example(name="training.epochs", value="1\nother = 2")
@settings(max_examples=300, deadline=None)
def test_no_setting_whatever_does_anything_but_apply_or_be_refused(name: str, value: str) -> None:
    try:
        changed = apply_settings(Config(), [f"{name}={value}"])
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - both ends are fine
        return
    assert len(changed.fingerprint) == 12
    assert build_config(tomllib.loads(f"x = {format_value(changed.dump())}")["x"]) == build_config(changed.dump())


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@example("\x7f🙂\n\"'\\ = [1]")
def test_a_text_written_as_a_setting_comes_back(text: str) -> None:
    assert apply_settings(Config(), [f"ingest.log={format_value(text)}"]).ingest.log == text


SECRET = "s3cr3t"
URLS = [
    f"postgresql://ann:{SECRET}@db/shop",
    f"postgresql+psycopg://ann:{SECRET}@db:5432/shop?sslmode=require",
    f"mysql://:{SECRET}@db",
    f"postgresql://ann:{SECRET}@home@db/shop",
    f"postgresql://ann:at@{SECRET}@db/shop",
    f"postgresql://ann:a/b:{SECRET}@db/shop",
    f"postgresql://ann:${{PW}}{SECRET}@db/shop",
    f"postgresql://ann:${{PW}}@{SECRET}@db/shop",
    f"postgresql://db/shop?user=ann&password={SECRET}",
    f"postgresql://ann:${{PW}}@db/shop?sslpassword={SECRET}",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3D{SECRET}%3B",
]


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_hidden_wherever_the_configuration_is_shown(tmp_path: Path, url: str) -> None:
    config = build_config({"ingest": {"log": url}, "split": {"test": url}})
    assert config.ingest.log == url
    assert SECRET not in dump_json(config.dump())
    assert "***" in config.dump()["ingest"]["log"]
    assert config.dump()["ingest"]["log"].startswith(url.split("://")[0])
    run = create_run(tmp_path, config)
    assert SECRET not in (run.folder / "run.json").read_text()
    assert SECRET not in str(open_run(tmp_path).config)


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_in_no_message(url: str) -> None:
    for values in ({"ingest": {"log": [url]}}, {"ingest": {"format": url}}, {"ingest": url}, {"ingest": {"logg": url}}):
        with pytest.raises(ConfigError) as caught:
            build_config(values)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
    for setting in (f"ingest.logg={url}", f"ingest.log:{url}", f"ingest.format={url}", f"ingest.log=['{url}']"):
        with pytest.raises(ConfigError) as caught:
            apply_settings(Config(), [setting])
        assert SECRET not in str(caught.value)


def test_two_passwords_make_no_two_fingerprints() -> None:
    one, two = (build_config({"ingest": {"log": f"mysql://u:{secret}@db"}}) for secret in ("a", "b"))
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:${PW}@db/shop",
        "postgresql://${ME}:${PW}@db/shop",
        "postgresql://db/shop?password=${PW}&user=ann",
        "sqlite:///a.db",
        "postgresql://ann@db:5432/shop?sslmode=require",
        "/data/a@b:c/events.csv",
        "C:\\data\\events.csv",
        "",
    ],
)
def test_what_holds_no_password_is_shown_as_it_is(text: str) -> None:
    assert hide_password(text) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sqlite:///a.db", True),
        ("postgresql+psycopg://u@h/d", True),
        ("a.csv", False),
        ("C:\\a", False),
        ("/a://b", False),
    ],
)
def test_urls_are_told_from_paths(text: str, found: bool) -> None:
    assert is_url(text) is found


def test_relative_paths_of_a_file_start_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.toml").write_text(
        """
        [ingest]
        log = "logs/*.csv"
        items = "../items.csv"
        users = "/data/users.csv"
        [split]
        test = "~/test.csv"
        [publishing]
        store = "~nobody-here/store"
        """
    )
    config = read_config(tmp_path / "below" / "c.toml")
    assert config.ingest.log == str(tmp_path / "below" / "logs" / "*.csv")
    assert Path(config.ingest.items).resolve() == (tmp_path / "items.csv").resolve()
    assert config.ingest.users == "/data/users.csv"
    assert config.split.test == "/home/ann/test.csv"
    assert config.publishing.store == str(tmp_path / "below" / "~nobody-here" / "store")
    assert config.images.root == ""
    (tmp_path / "c.toml").write_text('[ingest]\nlog = "postgresql://u:${PW}@h/d"')
    assert read_config(tmp_path / "c.toml").ingest.log == "postgresql://u:${PW}@h/d"
    assert read_config(tmp_path / "c.toml").publishing.store == "data"
    assert apply_settings(Config(), ["ingest.log=logs/a.csv"]).ingest.log == "logs/a.csv"


def test_dates_of_a_file_need_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[ingest]\nsince = 2025-01-01\nuntil = 2025-02-01T00:00:00Z\n")
    config = read_config(tmp_path / "c.toml")
    assert (config.ingest.since, config.ingest.until) == ("2025-01-01", "2025-02-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[training", r"c\.toml is not TOML"),
        (b"[training]\nepochs = 1\nepochs = 2", r"c\.toml is not TOML"),
        (b"x = " + b"9" * 5000, r"c\.toml is not TOML"),
        (b"x = " + b"[" * 5000, r"c\.toml is not TOML"),
        (b"\xff\xfe", r"c\.toml cannot be read"),
        (b"training = 3", "training is 3"),
        (b"ingest = 3", "ingest is 3"),
        (b"[split]\nby = 2025-01-01", r"split\.by is '2025-01-01'"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "c.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "c.toml")


def test_a_file_that_is_not_there_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration at .*none\.toml; make one with: recsys-cl init DIR"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["a\x7fb", "it's", 'a "b"', "a\\nb", "${X}"])
def test_options_of_any_text_are_settings_of_that_text(name: str) -> None:
    assert load_config(None, (), Path(name)).publishing.store == name
    assert load_config(None, Inputs(log=name).list_settings()).ingest.log == name
