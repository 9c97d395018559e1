"""One suite over every encoder of pictures: shapes, order of the batch, gradients, and the file that lookup runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_cl.config import Config, apply_settings
from recsys_cl.image_sections import ImagesConfig
from recsys_cl.images.encoders import Encoder, Run, build_encoder
from recsys_cl.publishing.parts import IMAGE_ENCODER
from recsys_cl.serving.pictures import FrozenModel, PictureEncoder
from recsys_cl.training.pictures import PictureFacts, build_picture_model, configure_pictures, get_pictures
from recsys_cl.training.save import save_pictures

KINDS = ("convnet", "resnet18", "onnx")
SIDES = (12, 30)  # the second is no multiple of four


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[1, 3])
def channels(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def frozen(tmp_path: Path, kind: str, channels: int, write_foreign: Callable[..., None]) -> FrozenModel | None:
    if kind != "onnx":
        return None
    write_foreign(tmp_path / "foreign.onnx", channels)
    return FrozenModel(tmp_path / "foreign.onnx", (0.5,) * channels, (0.25,) * channels)


def configure(kind: str, channels: int, side: int) -> ImagesConfig:
    return ImagesConfig(encoder=kind, onnx="given" if kind == "onnx" else "", channels=channels, side=side)


def build(kind: str, channels: int, side: int, frozen: FrozenModel | None, seed: int = 0) -> Encoder:
    run: Run | None = None if frozen is None else frozen.run
    return build_encoder(configure(kind, channels, side), torch.Generator().manual_seed(seed), run)


@pytest.mark.parametrize("side", SIDES)
def test_one_row_a_picture_whoever_else_is_in_the_batch(
    kind: str, channels: int, side: int, frozen: FrozenModel | None
) -> None:
    encoder = build(kind, channels, side, frozen).eval()
    pictures = torch.rand(6, channels, side, side)
    with torch.no_grad():
        features = encoder(pictures)
        assert features.shape == (6, encoder.width)
        assert torch.isfinite(features).all()
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        assert torch.allclose(encoder(pictures[order]), features[order], atol=1e-5)
        assert torch.allclose(encoder(pictures[:1]), features[:1], atol=1e-5)
        assert not torch.allclose(features[0], features[1])


def test_weights_are_those_of_the_seed_and_all_of_them_learn(
    kind: str, channels: int, frozen: FrozenModel | None
) -> None:
    one, same, other = (build(kind, channels, 12, frozen, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    if kind == "onnx":
        assert not list(one.parameters())
        return
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    one.train()
    one(torch.rand(8, channels, 12, 12)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in one.parameters())


@pytest.mark.parametrize("with_places", [True, False])
@pytest.mark.parametrize("score", ["cosine", "euclidean"])
def test_the_exported_file_answers_as_the_model(
    tmp_path: Path, kind: str, channels: int, frozen: FrozenModel | None, with_places: bool, score: str
) -> None:
    side, n = 12, 5
    pixels = np.random.default_rng(0).integers(0, 256, (n, channels, side, side), dtype=np.uint8)
    settings = [
        "images.collaborative=1",
        f"images.encoder={kind}",
        "images.onnx=given",
        f"images.channels={channels}",
        f"images.side={side}",
    ]
    config = configure_pictures(apply_settings(Config(), [*settings, f"images.score={score}", "model.dim=10"]))
    places = np.random.default_rng(1).random((n, 6)).astype(np.float32) if with_places else None
    facts = PictureFacts(lambda rows: pixels[rows], n, np.arange(n), places=places)
    model = build_picture_model(facts, config, None if frozen is None else frozen.run).eval()
    save_pictures(model, tmp_path / IMAGE_ENCODER)
    queries, found = PictureEncoder(tmp_path / IMAGE_ENCODER, frozen).encode(pixels)
    table = get_pictures(model)
    vectors = table.read()
    if score == "cosine":
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    assert queries.shape == (n, 10)
    assert np.allclose(queries[:, : vectors.shape[1]], vectors.numpy(), atol=1e-4)
    assert (queries[:, vectors.shape[1] :] == 1).all()
    assert (found is not None) == with_places
    if found is not None:
        assert table.place is not None
        expected = torch.nn.functional.normalize(table.read_features(table.place), dim=1)
        assert np.allclose(found, expected.detach().numpy(), atol=1e-4)
