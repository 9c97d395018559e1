"""The stage of pictures from a log to a release: placed new items, neighbors by picture, refusals, faults, erasures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys_cl import pipeline
from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import ConfigError, InputError, SealError, UnknownIdError
from recsys_cl.pipeline import Outcome
from recsys_cl.runs import create_run, open_run, reconfigure
from recsys_cl.serving.export import export
from recsys_cl.serving.export_jobs import Request
from recsys_cl.serving.image_lookup import answer_file, answer_item, describe_agreement, list_contrasts
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.serving.sinks import FileSink

N_KINDS, N_ITEMS, N_USERS, SIDE = 5, 120, 150, 12
BAD = {"empty.png": b"", "page.png": b"<html>"}
SETTINGS = [
    "model.dim=12",
    "recipe.search=false",
    "training.epochs=10",
    "training.least_steps=60",
    "training.n_threads=1",
    "publishing.require_gain=false",
    "publishing.least_effective_rank=1",
    "images.enabled=true",
    "images.channels=1",
    f"images.side={SIDE}",
    "images.label_column=kind",
    "images.least_steps=80",
    "images.epochs=1",
    "images.batch_pictures=60",
    "images.cold_share=0.3",
]


def draw_kind(kind: int, rng: np.random.Generator) -> Image.Image:
    """A bar in one of five places, under noise."""
    pixels = rng.integers(0, 90, (SIDE, SIDE))
    pixels[:, 2 * kind : 2 * kind + 3] += 150
    return Image.fromarray(pixels.astype(np.uint8))


def write_world(folder: Path) -> None:
    """Items of five kinds, each with a picture of its kind; users of one kind each; the last ten items are new, two
    pictures cannot be used, and one item has none."""
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for row in range(N_ITEMS):
        name = f"{row:03d}.png"
        draw_kind(row % N_KINDS, rng).save(folder / "pictures" / name)
        lines.append((f"i{row:03d}", f"Thing {row}", f"kind {row % N_KINDS}", f"pictures/{name}"))
    for name, data in BAD.items():
        (folder / "pictures" / name).write_bytes(data)
        lines.append((f"bad {name}", "Bad", "kind 0", f"pictures/{name}"))
    pl.DataFrame(lines, schema=["item_id", "title", "kind", "image_path"], orient="row").write_csv(folder / "items.csv")
    events = []
    for user in range(N_USERS):
        own = np.arange(user % N_KINDS, N_ITEMS - 10, N_KINDS)
        for time, item in enumerate(rng.permutation(own)[:12]):
            events.append((f"u{user:03d}", f"i{item:03d}", 1_700_000_000 + 86_400 * time + user))
        events.append((f"u{user:03d}", "plain", 1_700_000_000 + user))
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_csv(folder / "events.csv")


def configure(world: Path, store: Path, *settings: str) -> Config:
    given = [f"ingest.log={world}/events.csv", f"ingest.items={world}/items.csv", f"publishing.store={store}"]
    return apply_settings(Config(), [*given, *SETTINGS, *settings])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.fixture(scope="module")
def outcome(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    store = tmp_path_factory.mktemp("images")
    return pipeline.run_all(create_run(store, configure(world, store)))


@pytest.fixture(scope="module")
def release(outcome: Outcome) -> Release:
    return open_release(outcome.run.store)


def kind_of(item_id: str) -> int:
    return int(item_id[1:]) % N_KINDS


def share_of_kind(answers: list[dict[str, Any]], kind: int) -> float:
    return float(np.mean([answer["item_id"] != "plain" and kind_of(answer["item_id"]) == kind for answer in answers]))


def test_what_was_read_is_counted_and_what_was_refused_is_kept(outcome: Outcome) -> None:
    found = json.loads((outcome.run.folder / "images.json").read_text())
    assert found["n_pictures"] == N_ITEMS
    assert found["n_new_items"] == 10
    assert found["refused"] == {"empty": 1, "not_a_picture": 1}
    refused = pl.read_parquet(outcome.run.folder / "refused_pictures.parquet")
    assert sorted(refused["item_id"]) == ["bad empty.png", "bad page.png"]
    assert found["waiting_share"] < 0.5
    assert found["labels"]["n_kinds"] == N_KINDS
    assert min(found["labels"]["knn"], found["labels"]["linear_probe"]) > 0.8


def test_an_item_is_answered_by_behavior_and_by_picture(release: Release) -> None:
    by_behavior, by_image = answer_item(release, "i007", 5), answer_item(release, "i007", 5, "image")
    assert {answer["space"] for answer in by_behavior} == {"behavior"}
    assert {answer["space"] for answer in by_image} == {"image"}
    assert by_behavior == [answer | {"space": "behavior"} for answer in release.answer_similar("i007", 5)]
    assert share_of_kind(by_image, kind_of("i007")) >= 0.8
    assert all(answer["title"].startswith("Thing") for answer in by_behavior if answer["item_id"] != "plain")
    for answers in (by_behavior, by_image):
        assert [answer["rank"] for answer in answers] == [1, 2, 3, 4, 5]
        assert "i007" not in [answer["item_id"] for answer in answers]


def test_a_new_item_is_placed_by_its_picture_and_says_so(release: Release) -> None:
    shares = []
    for row in range(N_ITEMS - 10, N_ITEMS):
        answers = answer_item(release, f"i{row:03d}", 5)
        assert {answer["space"] for answer in answers} == {"behavior_by_image"}
        assert all(release.parts.catalog.items.find_row(answer["item_id"]) is not None for answer in answers)
        shares.append(share_of_kind(answers, row % N_KINDS))
    assert np.mean(shares) > 0.8
    images = [answer_item(release, f"i{row:03d}", 5, "image") for row in range(N_ITEMS - 10, N_ITEMS)]
    assert np.mean([share_of_kind(answers, kind_of(f"i{110 + n:03d}")) for n, answers in enumerate(images)]) > 0.8


def test_a_picture_never_seen_is_answered_from_its_file(release: Release, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    for kind in range(N_KINDS):
        draw_kind(kind, rng).save(tmp_path / "new.png")
        for by, space in (("image", "image"), ("behavior", "behavior_by_image")):
            answers = answer_file(release, tmp_path / "new.png", 5, by)  # type: ignore[arg-type]
            assert {answer["space"] for answer in answers} == {space}
            assert share_of_kind(answers, kind) >= 0.6
    known = Path(release.parts.catalog.describe(3)["image_path"])
    assert answer_file(release, known, 1)[0]["item_id"] == "i003"  # itself is the nearest


def test_what_cannot_be_answered_says_why(release: Release, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'plain' has no picture"):
        answer_item(release, "plain", 5, "image")
    for by in ("behavior", "image"):
        with pytest.raises(UnknownIdError, match="did you mean"):
            answer_item(release, "I007", 5, by)  # type: ignore[arg-type]
    with pytest.raises(UnknownIdError):
        answer_item(release, "bad empty.png", 5)
    with pytest.raises(InputError, match="k is 0"):
        answer_item(release, "i007", 0, "image")
    assert answer_item(release, "i007", 10**9, "image") == answer_item(release, "i007", 120, "image")
    (tmp_path / "none.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a picture"):
        answer_file(release, tmp_path / "none.png")


def test_agreement_and_contrasts(release: Release) -> None:
    found = describe_agreement(release, "i012", 8)
    ids = [{answer["item_id"] for answer in found[by]} for by in ("behavior", "image")]
    assert found["shared"] == sorted(ids[0] & ids[1])
    contrasts = list_contrasts(release)
    pairs = [{pair["item_id"], pair["other_id"]} for pair in contrasts["alike_but_different"]]
    assert pairs
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    gaps = [pair["by_behavior"] - pair["by_picture"] for pair in contrasts["alike_but_different"]]
    assert gaps == sorted(gaps)


def test_exports_say_which_space_answered(release: Release, tmp_path: Path) -> None:
    export(release, Request("neighbors", 3), FileSink(tmp_path / "n.parquet"))
    found = pl.read_parquet(tmp_path / "n.parquet").with_columns(pl.col("space").cast(pl.String))
    spaces = dict(found.select("item_id", "space").unique().iter_rows())
    assert set(spaces) == {f"i{row:03d}" for row in range(N_ITEMS)} | {"plain"}
    new = {item_id for item_id, space in spaces.items() if space == "behavior_by_image"}
    assert new == {f"i{row:03d}" for row in range(N_ITEMS - 10, N_ITEMS)}
    one = found.filter(item_id="i115").sort("rank")["neighbor_id"].to_list()
    assert one == [answer["item_id"] for answer in answer_item(release, "i115", 3)]
    export(release, Request("neighbors", 3, by="image"), FileSink(tmp_path / "i.parquet"))
    by_image = pl.read_parquet(tmp_path / "i.parquet").filter(item_id="i007").sort("rank")
    assert by_image["neighbor_id"].to_list() == [a["item_id"] for a in answer_item(release, "i007", 3, "image")]
    export(release, Request("recommendations", 3), FileSink(tmp_path / "r.parquet"))
    assert "space" not in pl.read_parquet(tmp_path / "r.parquet").columns


def test_new_items_are_judged_beside_pictures_pixels_and_popularity(outcome: Outcome) -> None:
    cold = json.loads((outcome.run.folder / "images.json").read_text())["cold_items"]
    assert set(cold["metrics"]) == {"model", "pictures_alone", "raw_pixels", "popularity"}
    assert cold["n_cold"] == 33
    for figures in cold["metrics"].values():
        for figure in figures.values():
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert cold["metrics"]["model"]["recall@20"]["value"] > cold["metrics"]["popularity"]["recall@20"]["value"] + 0.2
    assert cold["users"]["recall@20"] > cold["users"]["recall@20_by_chance"]


def test_the_report_shows_both_kinds_of_neighbors_and_the_sheet(release: Release) -> None:
    page = (release.folder / "report.html").read_text(encoding="utf-8")
    for words in ("by picture", "By the place of its picture", "refused: empty", "sheet"):
        assert words in page
    with Image.open(release.folder / "image_sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size[1] > 500
        assert len(sheet.convert("L").getcolors(1 << 20) or []) > 50  # there are pictures on it


IMAGE_FILES = [
    "image_items.arrow",
    "image_index.faiss",
    "image_encoder.onnx",
    "image_embeddings.npy",
    "image_places.npy",
    "image_sheet.png",
]


@pytest.mark.parametrize("name", IMAGE_FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_part_is_refused_by_its_name(release: Release, tmp_path: Path, name: str, damage: str) -> None:
    copy = tmp_path / release.version
    shutil.copytree(release.folder, copy)
    data = bytearray((copy / name).read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
    elif damage == "cut":
        (copy / name).write_bytes(data[:-1])
    else:
        (copy / name).unlink()
    with pytest.raises(SealError, match=name):
        open_release(copy)


def test_the_same_run_gives_the_same_vectors_and_decodes_nothing_again(
    outcome: Outcome, world: Path, tmp_path: Path
) -> None:
    store = tmp_path / "again"
    shutil.copytree(outcome.run.store / "pictures", store / "pictures")
    again = pipeline.run_all(create_run(store, configure(world, store)))
    assert json.loads((again.run.folder / "images.json").read_text())["n_decoded"] == 0
    for name in ("vectors.npy", "queries.npy", "places.npy"):
        first, second = (run.folder / "images" / name for run in (outcome.run, again.run))
        assert first.read_bytes() == second.read_bytes()


def test_pictures_alone_are_trained_anew_for_a_run_that_has_published(outcome: Outcome, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(outcome.run.store, store)
    run = open_run(store, outcome.run.run_id)
    changed = reconfigure(run, apply_settings(run.config, ["images.collaborative=0", "images.cold_share=0"]))
    assert [stage for stage in changed.stages if changed.is_done(stage)] == ["ingest", "train", "evaluate"]
    newer = open_release(pipeline.run_all(changed).run.store)
    assert newer.version != outcome.release
    assert np.array_equal(newer.parts.item_vectors, open_release(outcome.run.store).parts.item_vectors)
    with pytest.raises(InputError, match="places no picture"):
        answer_item(newer, "i115", 3)
    assert answer_item(newer, "i115", 3, "image")
    with pytest.raises(Exception, match=r"images\.root"):
        reconfigure(changed, apply_settings(run.config, ["images.root=elsewhere"]))


def ask(config: Config, store: Path) -> Callable[[], Outcome]:
    return lambda: pipeline.run_all(create_run(store, config))


def test_pictures_may_lie_in_a_folder_named_by_their_items(world: Path, tmp_path: Path) -> None:
    """A folder alone, without a column; what is no picture by its name is not looked at."""
    folder, store = tmp_path / "folder", tmp_path / "store"
    folder.mkdir()
    for row in range(N_ITEMS):
        shutil.copy(world / "pictures" / f"{row:03d}.png", folder / f"i{row:03d}.png")
    shutil.copy(world / "pictures" / "000.png", folder / "never heard of.png")
    (folder / "notes.txt").write_text("no picture")
    shutil.copy(world / "pictures" / "001.png", folder / "i000.webp")
    shutil.copy(os.fsencode(world / "pictures" / "001.png"), os.fsencode(folder) + b"/\xff.png")
    settings = [
        "ingest.items=",
        "images.label_column=",
        f"images.folder={folder}",
        "images.cold_share=0",
        "images.least_steps=5",
    ]
    made = ask(configure(world, store, *settings), store)()
    assert json.loads((made.run.folder / "images.json").read_text())["refused"] == {"bad_name": 1, "repeated": 1}
    release = open_release(store)
    assert release.parts.images is not None
    assert len(release.parts.images.items) == N_ITEMS + 1
    assert answer_item(release, "never heard of", 3)[0]["space"] == "behavior_by_image"


def test_what_cannot_be_trained_on_is_told_and_nothing_is_published(world: Path, tmp_path: Path) -> None:
    for n, (settings, expected) in enumerate(
        [
            (["ingest.items=", "images.label_column="], (ConfigError, "no item has a picture")),
            ([f"images.folder={tmp_path / 'none'}"], (ConfigError, "there is no folder")),
            (["images.labels=1", "images.label_column=color"], (ConfigError, "no attribute 'color'.*kind")),
            (["images.encoder=onnx", f"images.onnx={world}/items.csv"], (ConfigError, "is no frozen image model")),
        ]
    ):
        store = tmp_path / f"store{n}"
        with pytest.raises(expected[0], match=expected[1]):
            ask(configure(world, store, *settings), store)()
        assert not (store / "releases").exists()


@pytest.mark.parametrize("score", ["cosine", "euclidean"])
def test_a_frozen_model_and_any_score_go_into_a_release_that_answers_alone(
    world: Path, tmp_path: Path, write_foreign: Callable[..., None], score: str
) -> None:
    write_foreign(tmp_path / "foreign.onnx", 1)
    store = tmp_path / "store"
    settings = ["images.encoder=onnx", f"images.onnx={tmp_path / 'foreign.onnx'}", "images.onnx_mean=[0.3]"]
    ask(configure(world, store, *settings, f"images.score={score}", "images.least_steps=150"), store)()
    (tmp_path / "foreign.onnx").unlink()
    release = open_release(store)
    for row in (3, 50, 115):
        known = world / "pictures" / f"{row:03d}.png"
        assert answer_file(release, known, 1)[0]["item_id"] == f"i{row:03d}"  # itself is the nearest
        assert answer_file(release, known, 5, "behavior")[0]["space"] == "behavior_by_image"
    pairs = list_contrasts(release)["alike_but_different"]
    assert all(-1.001 <= pair[name] <= 1.001 for pair in pairs for name in ("by_picture", "by_behavior"))


def test_a_frozen_model_whose_weights_lie_elsewhere_is_refused(
    world: Path, tmp_path: Path, write_foreign: Callable[..., None]
) -> None:
    write_foreign(tmp_path / "foreign.onnx", 1, True)
    store = tmp_path / "store"
    settings = ["images.encoder=onnx", f"images.onnx={tmp_path / 'foreign.onnx'}"]
    with pytest.raises(ConfigError, match="as one ONNX file, its weights in it"):
        ask(configure(world, store, *settings), store)()
    assert not (store / "releases").exists()


def test_an_item_that_came_since_is_placed_when_pictures_are_trained_anew(
    outcome: Outcome, world: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(outcome.run.store, store)
    before = (world / "items.csv").read_text()
    try:
        (world / "items.csv").write_text(before + "newest,Newest,kind 3,pictures/003.png\n")
        run = open_run(store, outcome.run.run_id)
        again = reconfigure(run, apply_settings(run.config, ["images.cold_share=0", "images.least_steps=5"]))
        pipeline.run_all(again)
    finally:
        (world / "items.csv").write_text(before)
    release = open_release(store)
    assert answer_item(release, "newest", 1, "image")[0]["item_id"] == "i003"  # the same picture
    assert json.loads((release.folder / "images.json").read_text())["n_near_duplicates"] == 2


def test_without_pictures_a_release_says_so(world: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    release = open_release(ask(configure(world, store, "images.enabled=false"), store)().run.store)
    assert release.parts.images is None
    assert answer_item(release, "i003", 2)[0]["space"] == "behavior"
    for answer in (lambda: answer_item(release, "i003", 2, "image"), lambda: list_contrasts(release)):
        with pytest.raises(InputError, match=r"has no pictures.*images\.enabled=true"):
            answer()


# --- from the command line ---

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_commands_answer_by_picture_without_torch(recsys: Command, outcome: Outcome, world: Path) -> None:
    store = outcome.run.store
    release = open_release(store)

    def ask_json(*arguments: str | Path) -> Any:
        done = recsys(*arguments, "--store", store, "-k", "3", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    picture = world / "pictures" / "004.png"
    assert ask_json("similar", "i007", "--by", "image") == answer_item(release, "i007", 3, "image")
    assert ask_json("similar", "i115") == answer_item(release, "i115", 3)
    assert ask_json("similar", "--image", picture) == answer_file(release, picture, 3)
    assert ask_json("similar", "--image", picture, "--by", "behavior") == answer_file(release, picture, 3, "behavior")
    assert ask_json("agreement", "i007") == describe_agreement(release, "i007", 3)
    assert ask_json("agreement") == list_contrasts(release)
    code = "import sys; from recsys_cl.cli import app; from recsys_cl.door import run_app\n"
    code += "assert run_app(app, sys.argv[1:]) == 0 and 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "similar", "--image", str(picture), "--store", str(store)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def test_people_are_told_which_space_answered(recsys: Command, outcome: Outcome, tmp_path: Path) -> None:
    store = outcome.run.store
    assert recsys("similar", "i007", "--by", "image", "--store", store).stdout.startswith("by picture\n")
    assert "placed among the interactions by its picture" in recsys("similar", "i115", "--store", store).stdout
    assert "in both (*)" in recsys("agreement", "i007", "--store", store).stdout
    assert "look alike, behave differently" in recsys("agreement", "--store", store).stdout
    out = tmp_path / "n.parquet"
    done = recsys("export", "neighbors", "--by", "image", "--store", store, "--out", out, "-k", "2")
    assert done.stdout == f"{2 * N_ITEMS:,} rows of neighbors in {out}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["similar"], "either an item_id or --image FILE"),
        (["similar", "i007", "--image", "p.png"], "either an item_id or --image FILE"),
        (["similar", "--image", "none.png"], "none.png is not a picture that can be read"),
        (["similar", "plain", "--by", "image"], "has no picture"),
        (["agreement", "plain"], "has no picture"),
        (["export", "recommendations", "--by", "image", "--out", "r.parquet"], "recommendations are made by behavior"),
    ],
)
def test_mistakes_are_told_in_one_line(recsys: Command, outcome: Outcome, arguments: list[str], words: str) -> None:
    done = recsys(*arguments, "--store", outcome.run.store)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_the_stage_alone_goes_on_from_a_trained_run(recsys: Command, outcome: Outcome, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(outcome.run.store, store)
    run = ("--run", outcome.run.run_id, "--store", store)
    done = recsys("images", *run, "--set", "images.cold_share=0", "images.least_steps=4")
    assert done.returncode == 0, done.stderr
    assert "120 pictures, 10 of items without events, 2 refused" in done.stdout
    assert f"next: recsys-cl publish --store {store} --run {outcome.run.run_id}" in done.stdout
    refused = recsys("images", *run, "--set", "images.enabled=false")
    assert refused.returncode == 2
    assert "images.enabled=true" in refused.stderr
