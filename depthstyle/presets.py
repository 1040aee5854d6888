"""Settings of the Gatys family by name: one preset per paper, and our own."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from depthstyle.losses import NORMALISATIONS

if TYPE_CHECKING:
    from depthstyle.networks.depth_network import DepthNetwork
    from depthstyle.networks.network import Name

Layers = Mapping[str, float] | Sequence[str] | None

_NUMBERS = ("content_weight", "tv_weight", "laplacian_weight", "depth_weight", "weight_decay")


class Options(TypedDict, total=False):
    """The settings of a `Preset` as keyword arguments."""

    network: str
    content_layers: Layers
    style_layers: Layers
    normalisation: str
    balance: bool
    content_weight: float
    style_weight: float | Sequence[float]
    tv_weight: float
    laplacian_weight: float
    laplacian_pools: Sequence[int]
    depth_loss: str | None
    depth_weight: float
    depth_network: str
    depth_layers: Layers
    optimizer: str
    history: int
    schedule: Sequence[tuple[int, float]]
    weight_decay: float
    iterations: int
    scales: int
    init: str
    pooling: str
    clamp: bool


@dataclass(frozen=True)
class Preset:
    """Everything that decides a result besides the pictures.

    Attributes
    ----------
    network : str
        The network whose weights the preset was made for, a name for `networks.build`.
    content_layers, style_layers : mapping of str to float, sequence of str, or None
        The layers compared and the weight of each; None takes the network's usual ones.
    normalisation : {"gatys", "johnson", "sum", "size-invariant"}
        How sums become losses.
    balance : bool
        Divide the loss of each layer by the mean square of its target, so that layers, networks
        and inputs of any scale count alike.
    content_weight : float
        Weight of the content loss.
    style_weight : float or sequence of float
        Weight of the style loss, or one for each style.
    tv_weight, laplacian_weight : float
        Weights of total variation and of the Laplacian loss; 0 leaves them out.
    laplacian_pools : sequence of int
        Pool sizes of the Laplacian loss, one loss for each.
    depth_loss : {"output", "features"}, optional
        What a depth network must see alike in picture and photograph: its last output, or the
        features of its encoder. None leaves it out.
    depth_weight : float
        Weight of the depth loss; 0 leaves it out.
    depth_network : str
        The depth network, as for `estimate_depth`; ``"auto"`` is the best in the cache.
    depth_layers : mapping of str to float, sequence of str, or None
        The features of `depth_loss="features"` and the weight of each; None takes all.
    optimizer : {"lbfgs", "adam"}
        What minimises.
    history : int
        Steps that L-BFGS remembers; they take two pictures of memory each, and time.
    schedule : sequence of (int, float)
        Adam's learning rate from an iteration on, in the network's input range.
    weight_decay : float
        Adam's L2 penalty on the picture.
    iterations : int
        Iterations at each scale.
    scales : int
        How many sizes to go through, each twice the one before; 1 works at full size only.
    init : {"content", "noise"}
        What to start from.
    pooling : {"max", "average"}
        How the network halves its maps.
    clamp : bool
        Keep the picture within [0, 1] after every step of Adam; at the end it always is.
    """

    network: str = "encoder"
    content_layers: Layers = None
    style_layers: Layers = None
    normalisation: str = "size-invariant"
    balance: bool = True
    content_weight: float = 0.02
    style_weight: float | Sequence[float] = 1.0
    tv_weight: float = 0.0
    laplacian_weight: float = 0.0
    laplacian_pools: Sequence[int] = (4,)
    depth_loss: str | None = None
    depth_weight: float = 0.05
    depth_network: str = "midas-small"
    depth_layers: Layers = None
    optimizer: str = "lbfgs"
    history: int = 100
    schedule: Sequence[tuple[int, float]] = ((0, 0.05),)
    weight_decay: float = 0.0
    iterations: int = 100
    scales: int = 2
    init: str = "content"
    pooling: str = "max"
    clamp: bool = True

    def __post_init__(self) -> None:
        check_choice("normalisation", self.normalisation, tuple(NORMALISATIONS))
        check_choice("optimizer", self.optimizer, ("lbfgs", "adam"))
        check_choice("init", self.init, ("content", "noise"))
        check_choice("pooling", self.pooling, ("max", "average"))
        if self.depth_loss is not None:
            check_choice("depth_loss", self.depth_loss, ("output", "features"))
        for name in _NUMBERS:
            check_number(name, getattr(self, name))
        for weight in self.style_weights(1):
            check_number("style_weight", weight)
        for name in ("content_layers", "style_layers", "depth_layers"):
            _check_layers(name, getattr(self, name))
        for name in ("balance", "clamp"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be true or false")
        check_count("iterations", self.iterations)
        check_count("history", self.history)
        check_count("scales", self.scales)
        _check_list("laplacian_pools", self.laplacian_pools)
        for pool in self.laplacian_pools:
            check_count("laplacian_pools", pool)
        _check_list("schedule", self.schedule)
        for entry in self.schedule:
            _check_list("schedule", entry)
            if len(entry) != 2:
                raise ValueError(f"schedule={self.schedule!r}: must be pairs of iteration and rate")
            check_count("schedule", entry[0], least=0)
            check_number("schedule", entry[1])
        if self.schedule[0][0] != 0:
            raise ValueError(f"schedule={self.schedule!r}: must begin with iteration 0")

    def with_options(self, options: Mapping[str, Any]) -> Preset:
        """Return the preset with some settings changed.

        Raises
        ------
        ValueError
            A setting is unknown or its value is out of range.
        """
        known = [field.name for field in fields(self)]
        for name in options:
            if name not in known:
                raise ValueError(f"{name}: unknown setting; choose from {', '.join(known)}")
        return replace(self, **options)

    def layer_weights(
        self, content: str, style: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return the layers of content and style with their weights, given the usual layers."""
        contents = {content: 1.0} if self.content_layers is None else self.content_layers
        styles = style if self.style_layers is None else self.style_layers
        return _as_weights(contents), _as_weights(styles)

    def depth_outputs(self, network: DepthNetwork) -> dict[Name, float]:
        """Return the outputs of a depth network that the depth loss compares, with their weights.

        Raises
        ------
        ValueError
            The network has no such output.
        """
        if self.depth_loss == "output":
            return {network.output: 1.0}
        outputs = dict.fromkeys(network.features, 1.0)
        if self.depth_layers is not None:
            outputs = _as_weights(self.depth_layers)
        for name in outputs:
            network.network.layer(name)
        return outputs

    def style_weights(self, count: int) -> list[float]:
        """Return one style weight for each of `count` styles."""
        weight = self.style_weight
        if not isinstance(weight, Sequence):
            return [weight] * count
        return list(weight)

    def learning_rate(self, iteration: int) -> float:
        """Return Adam's learning rate at an iteration."""
        return [rate for start, rate in self.schedule if start <= iteration][-1]

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)


def _as_weights(layers: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    return dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)


def _check_layers(name: str, layers: Any) -> None:
    if layers is None:
        return
    listed = isinstance(layers, Mapping | Sequence) and not isinstance(layers, str | bytes)
    if not listed or not layers or not all(isinstance(layer, str) for layer in layers):
        raise ValueError(f"{name}={layers!r}: give a list of names, or a mapping to weights")
    for layer, weight in _as_weights(layers).items():
        check_number(f"{name}[{layer!r}]", weight)


def _check_list(name: str, value: Any) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise ValueError(f"{name}={value!r}: must be a list with at least one entry")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: choose from {', '.join(choices)}")


def check_number(name: str, value: Any) -> None:
    """Refuse what is no finite number of at least 0."""
    if not _is_real(value) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{name}={value!r}: must be a finite number of at least 0")


def check_share(name: str, value: Any) -> None:
    """Refuse what is no number from 0 to 1."""
    if not _is_real(value) or not 0 <= value <= 1:
        raise ValueError(f"{name}={value!r}: must be a number from 0 to 1")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least {least}")


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_SIZE_INVARIANT = Preset()

# Paper 001 builds on a course's notebook, whose losses lack the factors 1/2 and 1/4 of the paper's
# equations: its weights are doubled (content) and multiplied by four (style) here.
_PAPER_001 = Preset(
    normalisation="gatys",
    balance=False,
    tv_weight=2e-2,
    optimizer="adam",
    schedule=((0, 3.0), (180, 0.1)),
    iterations=300,
    scales=1,
    init="noise",
)

# Paper 004 prints no weights; these are those of the code that it builds on (content 1, style
# 1000 / C^2, means of squares) in the paper's normalisation at that code's size of 512 pixels.
_PAPER_004 = Preset(
    network="vgg19-caffe",
    content_layers={"relu4_2": 1.0},
    style_layers={
        f"relu{block}_1": 4e3 / channels**2
        for block, channels in enumerate((64, 128, 256, 512, 512), start=1)
    },
    normalisation="gatys",
    balance=False,
    content_weight=2 / (512 * 64 * 64),
    iterations=500,
    scales=1,
)

_PAPER_001_VGG16 = replace(
    _PAPER_001,
    network="vgg16",
    content_layers={"relu5_3": 1.0},
    style_layers={"relu1_2": 8e5, "relu2_2": 3.2e3, "relu3_3": 48.0, "relu4_3": 4.0},
    content_weight=12e-2,
)

# Paper 000 trains a network with these losses; here they are minimised for one picture. Its depth
# weight is the printed one, but the published code never applied it.
_PAPER_000 = Preset(
    network="vgg16",
    content_layers={"relu2_2": 1.0},
    style_layers=("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
    normalisation="johnson",
    balance=False,
    content_weight=1.0,
    style_weight=5.0,
    depth_loss="output",
    depth_weight=5.0,
    depth_network="hourglass",
    scales=1,
)

PRESETS = {
    "size-invariant": _SIZE_INVARIANT,
    "lapstyle": replace(_SIZE_INVARIANT, laplacian_weight=1.0, laplacian_pools=(4,)),
    "000": _PAPER_000,
    "001-squeezenet": replace(
        _PAPER_001,
        network="squeezenet1_1",
        content_layers={"fire2": 1.0},
        style_layers={"relu1": 8e5, "fire3": 3.2e3, "fire4": 48.0, "fire5": 4.0},
        content_weight=6e-2,
    ),
    "001-vgg16": _PAPER_001_VGG16,
    "001-depth": replace(
        _PAPER_001_VGG16, depth_loss="output", depth_weight=1e4, depth_network="monodepth2"
    ),
    "003": Preset(
        network="vgg19",
        content_layers={"relu4_1": 1.0},
        style_layers={
            "relu1_1": 1e8,
            "relu2_1": 0.8e7,
            "relu3_1": 0.5e6,
            "relu4_1": 0.3e6,
            "relu5_1": 0.1e6,
        },
        normalisation="sum",
        balance=False,
        content_weight=1.0,
        laplacian_weight=1e2,
        depth_loss="output",
        depth_weight=1e4,
        depth_network="midas-small",
        optimizer="adam",
        schedule=((0, 1.0),),
        weight_decay=0.1,
        iterations=200,
        scales=1,
    ),
    "004-gatys": _PAPER_004,
    "004-lapstyle": replace(_PAPER_004, laplacian_weight=1e2),
    # It prints no depth weight either: that of paper 003 beside the same Laplacian weight.
    "004-depth": replace(
        _PAPER_004, depth_loss="output", depth_weight=1e4, depth_network="monodepth2"
    ),
}
"""Presets by name: ours without and with a Laplacian loss, and those of the papers."""


def preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises
    ------
    ValueError
        The name is unknown.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset={name!r}: unknown; choose from {', '.join(PRESETS)}")
    return PRESETS[name]
