"""The dataflow: a log goes in, a live release comes out, in stages that meet on disk.

    ingest     log → validated interactions, catalog attributes, refused rows
    train      interactions → split and audit → vectors of the evaluated fit (events before the cut) and of the
               published fit (every kept event), same settings and number of steps
    evaluate   evaluated fit + test events → metrics beside baselines, and the figures of each user
    images     where enabled: pictures of the items → an encoder, vectors, and how new items fare by picture
    publish    published fit → onto the live release's space → index → gate, beside the live one → sealed release →
               CURRENT

Each stage reads what the one before wrote into the run's folder: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from recsys_cl.catalog import Catalog
from recsys_cl.comparing import PER_USER
from recsys_cl.contract import judge_ingested
from recsys_cl.errors import ConfigError, MovedError, StoreError
from recsys_cl.evaluation.evaluate import Evaluation, evaluate
from recsys_cl.evaluation.targets import check_judged
from recsys_cl.files import measure_folder, read_json, write_file, write_json
from recsys_cl.gating import Live, gather_facts, open_live, read_evaluated
from recsys_cl.image_parts import SETTLED, read_image_parts
from recsys_cl.index.structure import Index
from recsys_cl.indexing import index_items
from recsys_cl.interactions.ingest import Ingested, ingest_log
from recsys_cl.interactions.split import check_audit
from recsys_cl.interactions.table import Interactions
from recsys_cl.interrupts import hold_run
from recsys_cl.plan import Plan
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.publishing.gate import check_finite, check_gate
from recsys_cl.publishing.manifest import GateResult
from recsys_cl.publishing.parts import GIVEN_FILES, EvaluatedFit, ImageParts, ReleaseParts
from recsys_cl.publishing.receipts import clear_due
from recsys_cl.publishing.release import ReleaseFacts, publish_release
from recsys_cl.reporting import write_reports
from recsys_cl.runs import Run
from recsys_cl.settling import Settled, read_fit, read_tables, settle
from recsys_cl.stage_inputs import join_users, read_frame, read_items_anew, split_run

_SHOWN = {"candidates": "item vectors", "queries": "user vectors", "bags": "bag vectors"}
_MOST_COMPARED = 3  # with how many live releases a candidate is compared, where others publish meanwhile


@dataclass(frozen=True)
class Outcome:
    """A finished run: where it lies, and the release it published."""

    run: Run
    release: str

    def read(self, name: str) -> Any:
        """What a stage wrote: `ingest`, `train`, `evaluation` or `release`."""
        return read_json(self.run.folder / f"{name}.json")

    def dump(self) -> dict[str, Any]:
        """For programs: `{"run_id", "release", "store", "ingest", "train", "evaluation"}`."""
        names = {"run_id": self.run.run_id, "release": self.release, "store": str(self.run.store)}
        return names | {name: self.read(name) for name in ("ingest", "train", "evaluation")}


@dataclass(frozen=True)
class Frames:
    """A log, and attributes, that are in memory already."""

    log: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None


def run_all(
    run: Run, *, force: str | None = None, progress: Progress = report_nothing, frames: Frames | None = None
) -> Outcome:
    """Run every stage that is not done yet. Raises what the stages raise; InterruptedRunError on ctrl-C."""
    for stage in run.stages:
        if not run.is_done(stage):
            run_stage(run, stage, force=force, progress=progress, frames=frames)
    return open_outcome(run)


def open_outcome(run: Run) -> Outcome:
    """The outcome of a run that has published. Raises StoreError where it has not."""
    if not run.is_done("publish"):
        raise StoreError(f"run {run.run_id} has published nothing", remedy=f"finish it with: {run.resume_command}")
    return Outcome(run, read_json(run.folder / "release.json")["release"])


def run_stage(
    run: Run,
    stage: str,
    *,
    force: str | None = None,
    progress: Progress = report_nothing,
    frames: Frames | None = None,
) -> None:
    """Run one stage, and mark it as done. Raises StoreError where a stage before it is not."""
    if stage not in run.stages:
        raise ConfigError(
            f"run {run.run_id} has no stage of pictures", "images.enabled=true", "--set images.enabled=true"
        )
    for earlier in run.stages[: run.stages.index(stage)]:
        if not run.is_done(earlier):
            raise StoreError(
                f"run {run.run_id} has not finished {earlier}", remedy=f"first: recsys-cl {earlier} --store {run.store}"
            )
    stages: dict[str, Callable[[], None]] = {
        "ingest": lambda: _ingest(run, progress, frames or Frames()),
        "train": lambda: _train(run, progress),
        "evaluate": lambda: _evaluate(run, progress),
        "images": lambda: _images(run, progress),
        "publish": lambda: _publish(run, progress, force),
    }
    started = time.perf_counter()
    with hold_run(run):
        stages[stage]()
    run.finish(stage, time.perf_counter() - started)


def _ingest(run: Run, progress: Progress, frames: Frames) -> None:
    given, images = {}, run.config.images
    for name, frame in (("items", frames.items), ("users", frames.users)):
        if frame is not None:  # as a file, so that columns are recognized and checked in one way
            given[name] = str(run.folder / f"given-{name}.parquet")
            frame.write_parquet(given[name])
    if frames.items is not None and not images.root:
        images = images.model_copy(update={"root": str(Path.cwd())})
    config = run.config.ingest.model_copy(update=given)
    judge = partial(judge_ingested, run)
    ingested: Ingested = ingest_log(config, images, run.raw, run.folder, progress, frames.log, accept=judge)
    for name, attributes in (("items", ingested.item_attributes), ("users", ingested.user_attributes)):
        if attributes is not None:
            attributes.write_parquet(run.folder / f"{name}.parquet")
    write_json(run.folder / "ingest.json", ingested.report.dump())


def _train(run: Run, progress: Progress) -> None:
    from recsys_cl.fits import describe_tower, write_evaluated, write_published
    from recsys_cl.recipe import choose_plan, fit_plan
    from recsys_cl.sampling.audit import audit_pairs
    from recsys_cl.training.checkpoint import name_training
    from recsys_cl.trials import Place

    config, interactions = run.config, Interactions.read(run.folder / "interactions")
    split = split_run(run, interactions)
    check_audit(split.audit, config.split)
    check_judged(split.train, split.test)  # before hours of training
    pairs = audit_pairs(split.train, config)
    parts = (interactions, split.train, split.test)
    work = run.open_work(" ".join([*(name_training(part, config) for part in parts), config.recipe.model_dump_json()]))

    def place(name: str, what: str) -> Place:
        return Place(_named(progress, what), work / f"{name}.safetensors", run.folder / "steps" / f"{name}.jsonl")

    def fit_evaluated() -> list[dict[str, Any]]:
        fitted = fit_plan(split.train, config, plan, place("evaluated", "evaluated fit"))
        write_evaluated(fitted, run.folder / "evaluated")
        return fitted.history

    def fit_published() -> dict[str, Any]:
        fitted = fit_plan(interactions, config, plan, place("published", "published fit"))
        write_published(fitted, interactions.to_bags(), run.folder / "published")
        return {"history": fitted.history, "query_tower": describe_tower(fitted.model)}

    choosing = place("choosing", "choosing")
    plan = Plan.load(_do_once(work / "plan.json", lambda: choose_plan(split.train, config, choosing).dump()))
    evaluated = _do_once(work / "evaluated.json", fit_evaluated)
    published = _do_once(work / "published.json", fit_published)
    audit = {"audit": split.audit.dump() | pairs.dump(), "audit_lines": split.audit.describe() + pairs.describe()}
    chosen = {"choice": plan.reasons, "members": [asdict(member) for member in plan.members]}
    history = {
        "validation": [e | {"tower": kind} for kind, entries in plan.histories.items() for e in entries],
        "evaluated": evaluated,
        "published": published["history"],
    }
    write_json(run.folder / "train.json", audit | chosen | history | {"query_tower": published["query_tower"]})
    run.close_work()


def _evaluate(run: Run, progress: Progress) -> None:
    split = split_run(run, Interactions.read(run.folder / "interactions"))
    config, seed = run.config.evaluation, run.config.training.seed
    found = evaluate(*read_fit(run.folder / "evaluated"), split.train, split.test, config, seed, progress)
    assert found.per_user is not None, "an evaluation that was just made has its users"
    with write_file(run.folder / PER_USER) as temporary:
        found.per_user.write_parquet(temporary)
    write_json(run.folder / "evaluation.json", found.dump())


def _images(run: Run, progress: Progress) -> None:
    from recsys_cl.imaging import make_images
    from recsys_cl.pictured import Before

    interactions = Interactions.read(run.folder / "interactions")
    plan = Plan.of_members(read_json(run.folder / "train.json")["members"])
    before = Before(interactions, split_run(run, interactions), plan, read_items_anew(run))
    make_images(run, before, progress)


def _publish(run: Run, progress: Progress, force: str | None) -> None:
    for left in range(_MOST_COMPARED, 0, -1):
        try:
            _publish_beside(open_live(run.store), run, progress, force)
            return
        except MovedError:  # another publisher was faster: judge again, beside what is live now
            if left == 1:
                raise


def _publish_beside(live: Live, run: Run, progress: Progress, force: str | None) -> None:
    folder, config = run.folder, run.config
    interactions = Interactions.read(folder / "interactions")
    tables = read_tables(folder / "published")
    check_finite({_SHOWN[name]: vectors for name, vectors in tables.items()})
    split = split_run(run, interactions)
    progress("publish", 0, 3, "rotating onto the live release, and building the index")
    settled = settle(folder / "published", folder / SETTLED, interactions.items, live.release, config.training.seed)
    evaluated = read_evaluated(folder, interactions, split)
    index = index_items(settled, (folder / "evaluated", split), config)
    images, image_facts = None, None
    if config.images.enabled:
        live_images = None if live.release is None else live.release.parts.images
        images, image_facts = read_image_parts(folder, config, settled.rotation, live_images)
    parts = _gather_parts(folder, interactions, (evaluated, settled), (index, images))
    progress("publish", 1, 3, "beside the live release; writing the report")
    evaluation = Evaluation.load(read_json(folder / "evaluation.json"))
    facts = gather_facts(run, parts, settled, (split, evaluation, live))
    beside = None if facts.beside is None else facts.beside.dump()
    reasons = tuple(check_gate(facts, config.publishing))
    gate = GateResult(reasons=reasons, forced=force, beside=beside, alone=facts.alone)
    write_reports(run, parts, facts, gate)
    progress("publish", 2, 3, "sealing the release")
    release = publish_release(
        parts,
        ReleaseFacts(
            run_id=run.run_id,
            code_version=version("recsys_cl"),
            config=config.dump(),
            config_fingerprint=config.fingerprint,
            data_fingerprint=read_json(folder / "ingest.json")["fingerprint"],
            n_events=interactions.n_events,
            popularity_dim=config.model.dim - 1,
            **read_json(folder / "train.json")["query_tower"],
            ann_recall=facts.ann_recall,
            metrics={name: figure["value"] for name, figure in evaluation.metrics["model"].items()},
            gate=gate,
            cut=split.cut if interactions.timed else None,
            drift=settled.drift,
            images=image_facts,
        ),
        run.store,
        beside=live.name,
    )
    clear_due(run.store, run.read_stages()["ingest"]["finished"])
    size = measure_folder(run.store / "releases" / release)
    write_json(folder / "release.json", {"release": release, "ann_recall": facts.ann_recall, "size_bytes": size})
    shutil.rmtree(folder / SETTLED, ignore_errors=True)
    progress("publish", 3, 3, release)


def _gather_parts(
    folder: Path,
    interactions: Interactions,
    fits: tuple[EvaluatedFit, Settled],
    more: tuple[Index, ImageParts | None],
) -> ReleaseParts:
    """The parts of a release; more: the index of the settled vectors, and the parts of the pictures."""
    (evaluated, settled), (index, images) = fits, more
    here = ("evaluation.json", "report.html", "model_card.md")
    files = {name: (folder if name in here else folder / "published") / name for name in GIVEN_FILES}
    return ReleaseParts(
        catalog=Catalog.build(interactions.items, read_frame(folder / "items.parquet")),
        users=interactions.users,
        item_vectors=settled.candidates,
        bag_vectors=settled.bags,
        user_vectors=settled.queries,
        seen=interactions.to_bags(),
        evaluated=evaluated,
        rotation=settled.rotation,
        index=index,
        files=files | dict(settled.towers),
        user_attributes=join_users(interactions, folder / "users.parquet"),
        images=images,
    )


def _do_once(path: Path, do: Callable[[], Any]) -> Any:
    """What `do` gives, as JSON values; what an earlier process has done is read from `path` instead."""
    if not path.exists():
        write_json(path, do())
    return read_json(path)


def _named(progress: Progress, name: str) -> Progress:
    def report(what: str, done: float, total: float, note: str) -> None:
        progress(f"{what}, {name}", done, total, note)

    return report
