"""Learning from pictures without labels: one table of a folder of labeled pictures, all of it measured in one run.

`python benchmarks/images.py --data FOLDER_OR_TAR [--epochs N] [--seed N] [--json]`; the data holds `train/<label>/…`
and `test/<label>/…`, as MNIST does in `mnist/mnist-png.tar.gz`. Ours is trained on the training pictures without their
labels; then 100 labels (ten draws of an equal number each), or all, say which is which. Everything that is chosen, such
as the strength of a penalty, is chosen by cross-validation among those labels. The test part is used once, for the
table. Where a GPU is at hand, the pace of ResNet-18 on it is measured, too, on the same pictures as 32 × 32 × 3.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from cyclopts import App, Parameter
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from recsys_cl.config import Config, apply_settings
from recsys_cl.door import run_app
from recsys_cl.errors import InputError
from recsys_cl.image_sections import ImagesConfig
from recsys_cl.images.augment import augment
from recsys_cl.images.encoders import build_encoder
from recsys_cl.images.features import scale_pixels
from recsys_cl.model.encoders import normalize
from recsys_cl.picture_cache import PictureSet, cache_pictures
from recsys_cl.progress import Progress, show_progress
from recsys_cl.training.loop import Hooks
from recsys_cl.training.pictures import PictureFacts, TrainedPictures, train_pictures

N_LABELS, N_DRAWS, N_NEIGHBORS = 100, 10, 5
_FOLDS = 5
_SUPERVISED_STEPS = 300
_BLOCK = 1000
_WARM_STEPS = 5

Features = NDArray[np.float32]
app = App(name="benchmarks/images.py", help="One table of what pictures teach without labels.")


@dataclass(frozen=True)
class Part:
    """Pictures and the labels of one part."""

    pictures: PictureSet
    labels: NDArray[np.int64]

    def take_all(self) -> NDArray[np.uint8]:
        """All pixels [n, channels, side, side]."""
        return self.pictures.take(np.arange(len(self.pictures)))


@app.default
def main(
    *,
    data: Annotated[Path, Parameter(help="Folder or tar file with train/<label>/ and test/<label>/.")],
    epochs: Annotated[int, Parameter(help="Passes over the training pictures.")] = 10,
    side: Annotated[int, Parameter(help="Pixels of a side.")] = 28,
    channels: Annotated[int, Parameter(help="1: gray, 3: colors.")] = 1,
    seed: Annotated[int, Parameter(help="Another seed, another training.")] = 0,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> None:
    """Train without labels, and print the table.

    Example: `python benchmarks/images.py --data ../shared/data/mnist/mnist-png.tar.gz`
    """
    settings = [f"images.epochs={epochs}", "images.least_steps=0", "images.collaborative=0", f"training.seed={seed}"]
    config = apply_settings(Config(), [*settings, f"images.side={side}", f"images.channels={channels}"])
    with tempfile.TemporaryDirectory(prefix="recsys-cl-") as work, show_progress() as progress:
        parts, names = read_parts(data, Path(work), config.images, progress)
        found = measure(parts["train"], parts["test"], len(names), config, progress)
    print(json.dumps(found, indent=2) if as_json else describe(found))


def read_parts(data: Path, work: Path, config: ImagesConfig, progress: Progress) -> tuple[dict[str, Part], list[str]]:
    """Both parts, decoded into `work`, and the names of the labels. Raises InputError where the data is not so."""
    folder = data
    if data.is_file():
        folder = work / "data"
        try:
            with tarfile.open(data) as archive:
                archive.extractall(folder, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{data} cannot be unpacked ({error})", "a tar file of pictures") from error
    names, listed = list_files(data, folder)
    parts = {}
    for part, files in listed.items():
        if not files:
            raise InputError(f"{data} holds no pictures for {part}", f"some of each label: {', '.join(names)}")
        pictures = cache_pictures([path for path, _ in files], work / part, config.side, config.channels, progress)
        parts[part] = Part(pictures, np.array([code for _, code in files])[pictures.kept])
    return parts, names


def list_files(data: Path, folder: Path) -> tuple[list[str], dict[str, list[tuple[Path, int]]]]:
    """Names of the labels, and for both parts the files with the places of their labels. A folder of labels alone is
    parted by chance: a fifth of its pictures is the test."""
    found = sorted(path.parent for path in folder.rglob("train") if path.is_dir()) if folder.is_dir() else []
    roots = {part: found[0] / part for part in ("train", "test")} if found else {"train": folder}
    names = sorted(path.name for path in roots["train"].iterdir() if path.is_dir()) if roots["train"].is_dir() else []
    if len(names) < 2:
        raise InputError(f"{data} holds {len(names)} labels", "<label>/… or train/<label>/… and test/<label>/…")
    listed = {
        part: [(path, code) for code, name in enumerate(names) for path in sorted((root / name).glob("*"))]
        for part, root in roots.items()
    }
    if not found:
        files = listed["train"]
        order = np.random.default_rng(0).permutation(len(files))
        cut = len(files) // 5
        listed = {"train": [files[i] for i in sorted(order[cut:])], "test": [files[i] for i in sorted(order[:cut])]}
    return names, listed


def measure(train: Part, test: Part, n_kinds: int, config: Config, progress: Progress) -> dict[str, Any]:
    """The table, and the pace of each step."""
    pixels, test_pixels = train.take_all(), test.take_all()
    facts = PictureFacts(train.pictures.take, len(pixels), np.arange(len(pixels)))
    started = time.perf_counter()
    trained = train_pictures(facts, config, hooks=Hooks(progress=progress))
    train_seconds = time.perf_counter() - started
    raw = [part.reshape(len(part), -1).astype(np.float32) / np.float32(255) for part in (pixels, test_pixels)]
    ours = [encode(trained, part) for part in (pixels, test_pixels)]
    draws = [draw_labels(train.labels, n_kinds, seed) for seed in range(N_DRAWS)]
    few: dict[str, list[float]] = {"pixels": [], "supervised": [], "features": [], "embedding": []}
    for place, drawn in enumerate(draws):
        progress("judging", place, N_DRAWS, "")
        labels = train.labels[drawn]
        few["pixels"].append(probe(raw[0][drawn], labels, raw[1], test.labels))
        few["supervised"].append(teach(pixels[drawn], labels, (test_pixels, test.labels), n_kinds, config))
        for name, at in (("features", 0), ("embedding", 1)):
            few[name].append(probe(ours[0][at][drawn], labels, ours[1][at], test.labels))
    shown: list[tuple[str, str, tuple[Features, Features] | None]] = [
        ("raw pixels", "pixels", (raw[0], raw[1])),
        ("ConvNet, supervised, augmented", "supervised", None),
        ("ours, features before the head", "features", (ours[0][0], ours[1][0])),
        ("**ours, published embedding**", "embedding", (ours[0][1], ours[1][1])),
    ]
    rows = []
    for name, key, pair in shown:
        knn = None if pair is None else find_alike(pair[0], train.labels, pair[1], test.labels)
        rows.append(
            {"model": name, "probe": float(np.mean(few[key])), "probe_spread": float(np.std(few[key])), "knn": knn}
        )
    n_views = 2 * config.images.batch_pictures * trained.n_steps
    found = {
        "n_train": len(pixels),
        "n_test": len(test_pixels),
        "n_labels": len(draws[0]),
        "n_refused": train.pictures.refused.height + test.pictures.refused.height,
        "rows": rows,
        "train_seconds": train_seconds,
        "decoded_per_second": train.pictures.n_decoded / train.pictures.decode_seconds,
        "augmented_per_second": time_augmenting(pixels, config.images),
        "trained_per_second": n_views / trained.seconds,
        "waiting_share": trained.waited / trained.seconds,
    }
    return found | ({"gpu": time_resnet(pixels)} if torch.cuda.is_available() else {})


def encode(trained: TrainedPictures, pixels: NDArray[np.uint8]) -> tuple[Features, Features]:
    """Features [n, width] before the head, and embeddings [n, dim - 1] of unit length."""
    features, embeddings = [], []
    with torch.no_grad():
        for start in range(0, len(pixels), _BLOCK):
            features.append(trained.table.encoder(scale_pixels(pixels[start : start + _BLOCK])))
            embeddings.append(normalize(trained.table.embed(features[-1])))
    return torch.cat(features).numpy(), torch.cat(embeddings).numpy()


def draw_labels(labels: NDArray[np.int64], n_kinds: int, seed: int) -> NDArray[np.int64]:
    """An equal number of pictures of each kind, 100 together, of many kinds five of each."""
    rng = np.random.default_rng([seed, 7])
    each = max(_FOLDS, N_LABELS // n_kinds)
    return np.concatenate([rng.permutation(np.flatnonzero(labels == kind))[:each] for kind in range(n_kinds)])


def probe(known: Features, labels: NDArray[np.int64], asked: Features, expected: NDArray[np.int64]) -> float:
    """Accuracy of logistic regression, its penalty chosen by cross-validation among the known."""
    penalties = LogisticRegressionCV(
        Cs=8, cv=_FOLDS, l1_ratios=(0,), max_iter=300, use_legacy_attributes=False, scoring="accuracy"
    )
    return float(make_pipeline(StandardScaler(), penalties).fit(known, labels).score(asked, expected))


def find_alike(known: Features, labels: NDArray[np.int64], asked: Features, expected: NDArray[np.int64]) -> float:
    """Accuracy of the vote of the five nearest by cosine, those nearer counting more."""
    known, asked = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) for part in (known, asked))
    n_right = 0
    for start in range(0, len(asked), _BLOCK):
        scores = asked[start : start + _BLOCK] @ known.T
        near = np.argpartition(-scores, N_NEIGHBORS, axis=1)[:, :N_NEIGHBORS]
        votes = np.zeros((len(scores), labels.max() + 1))
        weights = np.exp(np.take_along_axis(scores, near, axis=1) / 0.1)
        np.add.at(votes, (np.repeat(np.arange(len(scores)), N_NEIGHBORS), labels[near].ravel()), weights.ravel())
        n_right += int((votes.argmax(axis=1) == expected[start : start + _BLOCK]).sum())
    return n_right / len(asked)


def teach(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    n_kinds: int,
    config: Config,
) -> float:
    """Accuracy of the same ConvNet, taught by the few labels alone, on augmented pictures."""
    generator = torch.Generator().manual_seed(config.training.seed)
    encoder = build_encoder(config.images, generator)
    model = nn.Sequential(encoder, nn.Linear(encoder.width, n_kinds))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    pictures, wanted = scale_pixels(pixels), torch.from_numpy(labels)
    for _ in range(_SUPERVISED_STEPS):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(augment(pictures, config.images, generator)), wanted)
        torch.autograd.backward(loss)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        blocks = [model(scale_pixels(test[0][at : at + _BLOCK])).argmax(dim=1) for at in range(0, len(test[0]), _BLOCK)]
    return float((torch.cat(blocks).numpy() == test[1]).mean())


def time_augmenting(pixels: NDArray[np.uint8], config: ImagesConfig) -> float:
    """Views a second of augmentation alone."""
    pictures, generator = scale_pixels(pixels[:512]), torch.Generator().manual_seed(0)
    augment(pictures, config, generator)
    started = time.perf_counter()
    for _ in range(10):
        augment(pictures, config, generator)
    return 10 * len(pictures) / (time.perf_counter() - started)


def time_resnet(
    pixels: NDArray[np.uint8], device: str = "cuda", batch: int = 1024, n_steps: int = 30
) -> dict[str, Any]:
    """Pictures a second, each in two views, of ResNet-18 in training: bfloat16, pictures of 32 × 32 × 3."""
    config = ImagesConfig(encoder="resnet18", side=32, channels=3)
    shown = nn.functional.interpolate(scale_pixels(pixels[:batch]).to(device), size=(32, 32), mode="bilinear")
    shown = shown.expand(-1, 3, -1, -1)
    generator = torch.Generator(device=device).manual_seed(0)
    encoder = build_encoder(config, torch.Generator()).to(device).train()
    optimizer = torch.optim.Adam(encoder.parameters())
    started = time.perf_counter()
    for step in range(n_steps + _WARM_STEPS):
        if step == _WARM_STEPS:  # the first steps choose their kernels
            _wait(device)
            started = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16):
            vectors = normalize(encoder(augment(torch.cat((shown, shown)), config, generator)).float())
            scores = vectors @ vectors.T / config.temperature
            itself = torch.eye(len(vectors), dtype=torch.bool, device=device)
            partners = torch.arange(len(vectors), device=device).roll(len(shown))
            loss = nn.functional.cross_entropy(scores.float().masked_fill(itself, -1e9), partners)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    _wait(device)
    seconds = time.perf_counter() - started
    return {
        "name": torch.cuda.get_device_name() if device == "cuda" else device,
        "pictures_per_second": n_steps * len(shown) / seconds,
        "encoder": f"resnet18, bfloat16, batch {batch:,}",
    }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def describe(found: dict[str, Any]) -> str:
    """As Markdown."""
    counts = f"{found['n_train']:,} training pictures, {found['n_test']:,} test pictures"
    lines = [
        f"{counts}, {found['n_refused']:,} refused; {N_DRAWS} draws of {found['n_labels']} labels.",
        "",
        f"| model | accuracy of a linear probe, {found['n_labels']} labels | accuracy of kNN, all labels |",
        "| --- | --- | --- |",
    ]
    for row in found["rows"]:
        knn = "" if row["knn"] is None else f"{row['knn']:.4f}"
        lines.append(f"| {row['model']} | {row['probe']:.4f} ± {row['probe_spread']:.4f} | {knn} |")
    paces = ", ".join(
        f"{found[f'{name}_per_second']:,.0f} {words}"
        for name, words in (
            ("decoded", "pictures decoded"),
            ("augmented", "views augmented"),
            ("trained", "views trained, augmenting included"),
        )
    )
    lines += ["", f"Trained in {found['train_seconds']:.0f} s without labels. A second: {paces}."]
    lines.append(f"Training waits for pixels {found['waiting_share']:.1%} of the time.")
    if "gpu" in found:
        gpu = found["gpu"]
        lines.append(f"{gpu['name']}: {gpu['pictures_per_second']:,.0f} pictures a second ({gpu['encoder']}).")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_app(app))
