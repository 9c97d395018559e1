"""Rebuilding: the same vectors bit for bit from the same data; where that has changed, it is named before training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cl import pipeline, rebuilding
from recsys_cl.config import Config
from recsys_cl.errors import SealError, StoreError
from recsys_cl.pipeline import Frames, Outcome
from recsys_cl.rebuilding import rebuild
from recsys_cl.runs import create_run


@pytest.fixture(scope="module")
def own(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """A run over a log of its own, which tests may change, and the log."""
    folder = tmp_path_factory.mktemp("rebuild")
    log = folder / "log.csv"
    shutil.copy(tiny_config.ingest.log, log)
    ingest = tiny_config.ingest.model_copy(update={"log": str(log)})
    return pipeline.run_all(create_run(folder / "store", tiny_config.model_copy(update={"ingest": ingest}))), log


def list_names(store: Path) -> set[str]:
    return {str(path.relative_to(store)) for path in store.rglob("*")}


def test_the_same_data_give_the_same_vectors_and_nothing_is_left(own: tuple[Outcome, Path]) -> None:
    outcome, _ = own
    before = list_names(outcome.run.store)
    found = rebuild(outcome.run.store, outcome.release)
    assert found.same
    assert found.dump() == {"release": outcome.release, "same": True, "changed": [], "differing": []}
    assert list_names(outcome.run.store) == before


def test_another_log_is_named_before_anything_is_trained(
    own: tuple[Outcome, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, log = own
    monkeypatch.setattr(rebuilding, "version", lambda name: "9.9")
    before = log.read_bytes()
    stages = []
    run_stage = pipeline.run_stage
    monkeypatch.setattr(
        rebuilding, "run_stage", lambda run, stage, **more: (stages.append(stage), run_stage(run, stage))
    )
    log.write_bytes(before + before.splitlines()[-1] + b"\n")
    try:
        found = rebuild(outcome.run.store, outcome.release)
    finally:
        log.write_bytes(before)
    assert stages == ["ingest"]
    assert not found.same
    assert [line.partition(":")[0] for line in found.changed] == ["the package", "the data"]


def test_a_vector_that_comes_out_otherwise_is_named(own: tuple[Outcome, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, _ = own
    run_stage = pipeline.run_stage

    def disturb(run: object, stage: str, **more: object) -> None:
        run_stage(run, stage)  # type: ignore[arg-type]
        if stage == "train":
            path = run.folder / "published" / "candidates.npy"  # type: ignore[attr-defined]
            vectors = np.load(path)
            vectors[0, 0] = np.nextafter(vectors[0, 0], np.float32(2))
            np.save(path, vectors)

    monkeypatch.setattr(rebuilding, "run_stage", disturb)
    assert rebuild(outcome.run.store, outcome.release).differing == ["item_embeddings"]


def test_what_cannot_be_rebuilt_says_why(own: tuple[Outcome, Path], tiny_config: Config, tmp_path: Path) -> None:
    outcome, log = own
    with pytest.raises(StoreError, match="there is no release"):
        rebuild(outcome.run.store, "20200101T000000Z-000000000000")
    shutil.copytree(outcome.run.store, tmp_path / "copy")
    (tmp_path / "copy" / "releases" / outcome.release / "users.arrow").write_bytes(b"")
    with pytest.raises(SealError, match=r"users\.arrow"):
        rebuild(tmp_path / "copy", outcome.release)
    frame = pl.read_csv(log, infer_schema=False)
    config = tiny_config.model_copy(update={"ingest": tiny_config.ingest.model_copy(update={"log": ""})})
    given = pipeline.run_all(create_run(tmp_path / "given", config), frames=Frames(log=frame))
    with pytest.raises(StoreError, match="log that is not recorded"):
        rebuild(tmp_path / "given", given.release)
