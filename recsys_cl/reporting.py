"""Gathering a report: comes in what the stages of a run wrote, goes out report.html, model_card.md and gate.json."""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import IMAGE, TITLE, Catalog
from recsys_cl.errors import InputError
from recsys_cl.evaluation.evaluate import Evaluation
from recsys_cl.evaluation.model_card import render_model_card
from recsys_cl.evaluation.report import render_report
from recsys_cl.evaluation.report_data import ReportData, Sample, ShownItem
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.files import read_json, write_json, write_text
from recsys_cl.pictures import make_thumbnail
from recsys_cl.publishing.gate import GateFacts
from recsys_cl.publishing.manifest import GateResult
from recsys_cl.publishing.parts import IMAGE_RESULT, IMAGE_SHEET, QUERY_TOWER, ImageParts, ReleaseParts
from recsys_cl.runs import Run
from recsys_cl.serving.towers import QueryTower

GATE = "gate.json"
_N_ITEMS, _N_NEIGHBORS, _SIDE = 8, 6, 64


def write_reports(run: Run, parts: ReleaseParts, facts: GateFacts, gate: GateResult) -> None:
    """Write report.html and model_card.md of these parts into the run's folder, and gate.json: what the gate said."""
    folder, catalog, images = run.folder, parts.catalog, parts.images
    ingest, train = read_json(folder / "ingest.json"), read_json(folder / "train.json")
    popularity = np.bincount(parts.seen.item_rows, minlength=len(catalog))
    drift = {} if facts.beside is None else {"drift": facts.beside.drift.model_dump()}
    data = ReportData(
        name=f"run {run.run_id}",
        facts={
            "events": f"{ingest['n_events']:,}",
            "users": f"{ingest['n_users']:,}",
            "items": f"{ingest['n_items']:,}",
            "configuration": run.config.fingerprint,
            "data": ingest["fingerprint"][:12],
            "seed": str(run.config.training.seed),
        },
        ingest=ingest,
        audit=train["audit_lines"],
        choice=train["choice"],
        evaluation=Evaluation.load(read_json(folder / "evaluation.json")).dump(),
        training=train["validation"] or train["evaluated"],
        popularity=popularity.tolist(),
        health=facts.health,
        index=asdict(parts.index.facts) | {"ann_recall": facts.ann_recall},
        neighbors=_choose_samples(parts, popularity, run.config.model.dim - 1),
        gate=gate.reasons,
        beside={"alone": gate.alone} if gate.beside is None else gate.beside | drift,
        settings=run.config.dump(),
        images={} if images is None else _show_images(images),
    )
    write_text(folder / "report.html", render_report(data))
    write_text(folder / "model_card.md", render_model_card(data))
    write_json(folder / GATE, gate.model_dump(mode="json"))


def _choose_samples(parts: ReleaseParts, popularity: NDArray[np.int64], popularity_dim: int) -> list[Sample]:
    """Items from the most popular down to the middle of the catalog, each with its neighbors; popularity_dim: as in the
    manifest."""
    catalog, images, candidates, bags = parts.catalog, parts.images, parts.item_vectors, parts.bag_vectors
    order = np.argsort(-popularity, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) // 2, _N_ITEMS).astype(int))]
    tower = QueryTower(parts.files[QUERY_TOWER], bags.shape[1], candidates.shape[1])
    queries = tower.encode_items(shown, bags, popularity_dim)
    found = search_exact(queries, np.asarray(candidates), _N_NEIGHBORS, Bags.of_items(shown))
    samples: list[Sample] = []
    for place, row in enumerate(shown):
        near = [(int(r), float(s)) for r, s in zip(found.rows[place], found.scores[place], strict=True) if r >= 0]
        sample: Sample = {
            "item": _show(catalog, int(row)),
            "neighbors": [{**_show(catalog, r), "score": s} for r, s in near],
        }
        if images is not None:
            sample["by_image"] = _find_alike(catalog, images, sample["item"]["item_id"])
        samples.append(sample)
    return samples


def _find_alike(catalog: Catalog, images: ImageParts, item_id: str) -> list[ShownItem]:
    """An item's neighbors by picture, those of the catalog; none where it has no picture."""
    row = images.items.find_row(item_id)
    if row is None:
        return []
    found = search_exact(
        images.queries[[row]], np.asarray(images.vectors), _N_NEIGHBORS, Bags.of_items(np.array([row]))
    )
    places = catalog.items.find_rows(images.items.get_ids(np.maximum(found.rows[0], 0)))
    near = zip(places, found.rows[0], found.scores[0], strict=True)
    return [{**_show(catalog, int(p)), "score": float(s)} for p, r, s in near if r >= 0 and p >= 0]


def _show_images(images: ImageParts) -> dict[str, Any]:
    sheet = base64.b64encode(images.files[IMAGE_SHEET].read_bytes()).decode()
    found: dict[str, Any] = read_json(images.files[IMAGE_RESULT])
    return found | {"sheet": f"data:image/png;base64,{sheet}"}


def _show(catalog: Catalog, row: int) -> ShownItem:
    known: dict[str, Any] = catalog.describe(row)
    item: ShownItem = {"item_id": known["item_id"]}
    if TITLE in known:
        item["title"] = known[TITLE]
    if IMAGE in known:
        try:
            picture = make_thumbnail(Path(known[IMAGE]), _SIDE)
        except InputError:
            return item  # a report goes on without a picture that cannot be read
        item["image"] = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return item
