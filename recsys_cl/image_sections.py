"""The section of the configuration that is about pictures; see `sections.py`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from recsys_cl.sections import Count, Section

Weight = Annotated[float, Field(ge=0)]
Strength = Annotated[float, Field(ge=0, le=1)]
OBJECTIVES = ("views", "co_interaction", "collaborative", "labels")


class ImagesConfig(Section):
    """Pictures of the items: shown in reports, and where enabled encoded and published beside the interactions."""

    enabled: bool = Field(False, description="Train an encoder of pictures, and publish what it gives.")
    column: str = Field("", description="Column of the items file with a picture's path. Empty: recognized by name.")
    root: str = Field("", description="Folder the paths start from, and may not leave. Empty: that of the items file.")
    folder: str = Field(
        "", description="Folder with a picture `item_id.png` (jpg, webp, gif, bmp) for an item. Empty: none."
    )
    side: int = Field(32, ge=8, le=512, description="Pixels of a picture's side, as it is encoded.")
    channels: Literal[1, 3] = Field(3, description="3: red, green and blue; 1: gray.")
    encoder: Literal["convnet", "resnet18", "onnx"] = Field(
        "convnet", description="Two convolutions; a ResNet-18 with a stem for small pictures; a frozen model in a file."
    )
    onnx: str = Field(
        "",
        description="File of the frozen image model: pictures [n, channels, side, side] in, one row each out (onnx).",
    )
    onnx_mean: tuple[float, ...] = Field(
        (), strict=False, description="Subtracted from each channel, of pixels from 0 to 1 (onnx). Empty: 0."
    )
    onnx_std: tuple[float, ...] = Field((), strict=False, description="Then divides each channel (onnx). Empty: 1.")
    views: Weight = Field(1.0, description="Weight of: two augmented views of a picture are near (SimCLR).")
    co_interaction: Weight = Field(0.0, description="Weight of: pictures of items that share a user are near.")
    collaborative: Weight = Field(
        1.0,
        description="Weight of: a picture lies where its item lies by interactions, so that a new one finds its place.",
    )
    labels: Weight = Field(0.0, description="Weight of: pictures of one label are near (supervised contrastive).")
    label_column: str = Field("", description="Attribute of the items that is their label (labels).")
    score: Literal["cosine", "euclidean"] = Field("cosine", description="As model.score, of pictures.")
    temperature: float = Field(0.5, ge=0.001, le=10, description="Divisor of the score of pictures.")
    epochs: Count = Field(30, description="Passes over the pictures.")
    least_steps: int = Field(300, ge=0, description="Few pictures are passed over more often, until so many steps.")
    batch_pictures: Annotated[int, Field(ge=2)] = Field(256, description="Pictures of a batch, each in two views.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(0.002, description="Greatest step size of the encoder.")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.0001, description="Decoupled weight decay a step.")
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = Field(
        20.0, description="A view is turned by up to so many degrees."
    )
    shift: Strength = Field(0.12, description="A view is moved by up to this share of its side.")
    zoom: Strength = Field(0.25, description="A view is enlarged or shrunk by up to this share.")
    shear: Strength = Field(0.2, description="A view is sheared by up to this slope.")
    warp: Strength = Field(
        0.1, description="A view is bent smoothly, points moving by some such share of half its side."
    )
    mirror: bool = Field(False, description="Half of the views are mirrored, left to right.")
    light: Strength = Field(0.3, description="A view changes in brightness and contrast by up to this share.")
    hue: Strength = Field(0.2, description="A view changes in the strength of each color by up to this share.")
    erase: Strength = Field(0.3, description="A view loses a rectangle of up to this share of its side.")
    duplicate_correlation: Annotated[float, Field(gt=0, le=1)] = Field(
        0.995,
        description="Pictures whose pixels correlate as much are near-duplicates, and no negatives of one another.",
    )
    cold_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1,
        description="Share of the items that the evaluation takes out of the log, to be found by picture. 0: none.",
    )

    @property
    def places_alone(self) -> bool:
        """Whether pictures learn nothing but where their items lie: then that is how they are alike, too."""
        return not (self.views or self.co_interaction or self.labels)

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
        """What would teach nothing, or needs what is not given; a section that is off may be incomplete."""
        if not self.enabled:
            return self
        if self.encoder == "onnx" and not self.onnx:
            raise ValueError("images.encoder is onnx, but images.onnx names no file")
        if self.labels and not self.label_column:
            raise ValueError(f"images.labels is {self.labels:g}, but images.label_column names no attribute")
        if not any(getattr(self, name) for name in OBJECTIVES):
            raise ValueError(f"images.{', '.join(OBJECTIVES)} are all 0: there is nothing to learn")
        if self.places_alone and self.score != "cosine":
            raise ValueError("images.collaborative is the only objective, which needs images.score=cosine")
        for name, values in (("onnx_mean", self.onnx_mean), ("onnx_std", self.onnx_std)):
            if values and len(values) != self.channels:
                raise ValueError(f"images.{name} has {len(values)} values for {self.channels} channels")
        if any(value <= 0 for value in self.onnx_std):
            raise ValueError(f"images.onnx_std is {self.onnx_std}, expected values above 0")
        return self
