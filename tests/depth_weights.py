"""Keys and shapes of the published depth networks, and weights from a seed for them.

The tables are those of the published files, written without reference to the package;
golden/make_depth_networks.py checks them against PyTorch modules.
"""

import numpy as np

NORM = ("weight", "bias", "running_mean", "running_var")
MIDAS_SMALL_STAGES = (
    # key, kernel, channels in and out, repeats
    ("pretrained.layer1.4", 3, 24, 32, 3),
    ("pretrained.layer2.0", 5, 32, 48, 3),
    ("pretrained.layer3.0", 3, 48, 96, 5),
    ("pretrained.layer3.1", 5, 96, 136, 5),
    ("pretrained.layer4.0", 5, 136, 232, 6),
    ("pretrained.layer4.1", 3, 232, 384, 1),
)
MIDAS_LARGE_STAGES = (
    # key, channels, repeats
    ("pretrained.layer1.4", 256, 3),
    ("pretrained.layer2", 512, 4),
    ("pretrained.layer3", 1024, 23),
    ("pretrained.layer4", 2048, 3),
)
# first channels, then (kernel, reduced channels, channels) of each branch
INCEPTIONS = {
    "A": (128, 32, (3, 32, 32), (5, 32, 32), (7, 32, 32)),
    "B": (128, 64, (3, 32, 64), (5, 32, 64), (7, 32, 64)),
    "C": (256, 64, (3, 32, 64), (5, 32, 64), (7, 32, 64)),
    "D": (256, 64, (3, 64, 64), (7, 64, 64), (11, 64, 64)),
    "E": (256, 32, (3, 32, 32), (5, 32, 32), (7, 32, 32)),
    "F": (128, 32, (3, 64, 32), (7, 64, 32), (11, 64, 32)),
    "G": (128, 32, (3, 64, 32), (5, 64, 32), (7, 64, 32)),
    "H": (128, 16, (3, 32, 16), (7, 32, 16), (11, 32, 16)),
    "I": (128, 16, (3, 64, 16), (7, 64, 16), (11, 64, 16)),
}
_MAIN4 = "3.0.0"
_MAIN3 = f"{_MAIN4}.3.0.0"
_MAIN2 = f"{_MAIN3}.3.0.1"
_MAIN1 = f"{_MAIN2}.3.0.1"
HOURGLASS_MODULES = {
    **{f"{_MAIN4}.{i}": kind for i, kind in ((1, "A"), (2, "A"), (4, "G"), (5, "H"))},
    "3.0.1.0": "I",
    **{f"{_MAIN3}.{i}": kind for i, kind in ((1, "A"), (2, "B"), (4, "C"), (5, "E"))},
    **{f"{_MAIN4}.3.0.1.{i}": kind for i, kind in ((0, "A"), (1, "F"))},
    **{f"{_MAIN2}.{i}": kind for i, kind in ((1, "C"), (2, "C"), (4, "C"), (5, "D"))},
    **{f"{_MAIN3}.3.0.0.{i}": kind for i, kind in ((0, "C"), (1, "D"))},
    **{f"{_MAIN1}.{i}": "C" for i in (1, 2, 3)},
    **{f"{_MAIN2}.3.0.0.{i}": "C" for i in (0, 1)},
}
RESNET18 = ((64, 64), (64, 128), (128, 256), (256, 512))
MONODEPTH2_CONVS = ((512, 256), (512, 256), (256, 128), (256, 128), (128, 64), (128, 64))
MONODEPTH2_CONVS += ((64, 32), (96, 32), (32, 16), (16, 16))


def conv(key, inputs, outputs, kernel, bias=False):
    shapes = {f"{key}.weight": (outputs, inputs, kernel, kernel)}
    return shapes | ({f"{key}.bias": (outputs,)} if bias else {})


def norm(key, channels):
    return {f"{key}.{part}": (channels,) for part in NORM}


def monodepth2_shapes():
    shapes = conv("encoder.conv1", 3, 64, 7) | norm("encoder.bn1", 64)
    for stage, (inputs, width) in enumerate(RESNET18, start=1):
        for block in (0, 1):
            key = f"encoder.layer{stage}.{block}"
            shapes |= conv(f"{key}.conv1", width if block else inputs, width, 3)
            shapes |= norm(f"{key}.bn1", width)
            shapes |= conv(f"{key}.conv2", width, width, 3) | norm(f"{key}.bn2", width)
        if inputs != width:
            key = f"encoder.layer{stage}.0.downsample"
            shapes |= conv(f"{key}.0", inputs, width, 1) | norm(f"{key}.1", width)
    shapes |= {"encoder.fc.weight": (1000, 512), "encoder.fc.bias": (1000,)}
    for index, (inputs, outputs) in enumerate(MONODEPTH2_CONVS):
        shapes |= conv(f"decoder.{index}.conv.conv", inputs, outputs, 3, bias=True)
    for index, inputs in enumerate((16, 32, 64, 128), start=10):
        shapes |= conv(f"decoder.{index}.conv", inputs, 1, 3, bias=True)
    return shapes


def midas_decoder_shapes(taps, widths, outs, halves):
    """Shapes of a decoder; `outs` is empty where it has no 1x1 convolutions."""
    shapes = {}
    for level in (1, 2, 3, 4):
        width = widths[level - 1]
        shapes |= conv(f"scratch.layer{level}_rn", taps[level - 1], width, 3)
        key = f"scratch.refinenet{level}"
        for unit in (1, 2):
            for part in (1, 2):
                shapes |= conv(f"{key}.resConfUnit{unit}.conv{part}", width, width, 3, bias=True)
        if outs:
            shapes |= conv(f"{key}.out_conv", width, outs[level - 1], 1, bias=True)
    last = outs[0] if outs else widths[0]
    shapes |= conv("scratch.output_conv.0", last, halves[0], 3, bias=True)
    shapes |= conv("scratch.output_conv.2", halves[0], halves[1], 3, bias=True)
    return shapes | conv("scratch.output_conv.4", halves[1], 1, 1, bias=True)


def midas_small_shapes():
    shapes = conv("pretrained.layer1.0", 3, 32, 3) | norm("pretrained.layer1.1", 32)
    key = "pretrained.layer1.3.0"
    shapes |= conv(f"{key}.conv_dw", 1, 32, 3) | norm(f"{key}.bn1", 32)
    shapes |= conv(f"{key}.conv_pw", 32, 24, 1) | norm(f"{key}.bn2", 24)
    for stage, kernel, first, outputs, repeats in MIDAS_SMALL_STAGES:
        for block in range(repeats):
            key, inputs = f"{stage}.{block}", outputs if block else first
            middle = 6 * inputs
            shapes |= conv(f"{key}.conv_pw", inputs, middle, 1) | norm(f"{key}.bn1", middle)
            shapes |= conv(f"{key}.conv_dw", 1, middle, kernel) | norm(f"{key}.bn2", middle)
            shapes |= conv(f"{key}.conv_pwl", middle, outputs, 1) | norm(f"{key}.bn3", outputs)
    widths = (64, 128, 256, 512)
    return shapes | midas_decoder_shapes((32, 48, 136, 384), widths, (64, 64, 128, 256), (32, 32))


def midas_large_shapes(divisor=1):
    """Shapes with all channels but the first and the last divided by `divisor`."""
    stem = 64 // divisor
    shapes = conv("pretrained.layer1.0", 3, stem, 7) | norm("pretrained.layer1.1", stem)
    inputs, taps = stem, []
    for stage, channels, repeats in MIDAS_LARGE_STAGES:
        width = channels // divisor
        for block in range(repeats):
            key = f"{stage}.{block}"
            shapes |= conv(f"{key}.conv1", inputs, width, 1) | norm(f"{key}.bn1", width)
            shapes |= conv(f"{key}.conv2", width // 32, width, 3) | norm(f"{key}.bn2", width)
            shapes |= conv(f"{key}.conv3", width, width, 1) | norm(f"{key}.bn3", width)
            if block == 0:
                shapes |= conv(f"{key}.downsample.0", inputs, width, 1)
                shapes |= norm(f"{key}.downsample.1", width)
            inputs = width
        taps.append(width)
    widths = (256 // divisor,) * 4
    return shapes | midas_decoder_shapes(taps, widths, (), (128 // divisor, 32 // divisor))


def hourglass_shapes():
    shapes = conv("0", 3, 128, 7, bias=True) | norm("1", 128)
    for path, kind in HOURGLASS_MODULES.items():
        inputs, first, *branches = INCEPTIONS[kind]
        shapes |= conv(f"{path}.0.0", inputs, first, 1, bias=True) | plain_norm(
            f"{path}.0.1", first
        )
        for branch, (kernel, reduced, outputs) in enumerate(branches, start=1):
            key = f"{path}.{branch}"
            shapes |= conv(f"{key}.0", inputs, reduced, 1, bias=True)
            shapes |= plain_norm(f"{key}.1", reduced)
            shapes |= conv(f"{key}.3", reduced, outputs, kernel, bias=True)
            shapes |= plain_norm(f"{key}.4", outputs)
    return shapes | conv("4", 64, 1, 3, bias=True)


def plain_norm(key, channels):
    return {f"{key}.{part}": (channels,) for part in NORM[2:]}


SHAPES = {
    "monodepth2": monodepth2_shapes,
    "midas-small": midas_small_shapes,
    "midas-large": midas_large_shapes,
    "hourglass": hourglass_shapes,
}
NARROW = 8
"""Divisor of the channels of midas-large in tests: the whole has 105 million parameters."""


def used_shapes(name):
    return midas_large_shapes(NARROW) if name == "midas-large" else SHAPES[name]()


def weights(name, seed=0):
    """Weights under the published keys that keep the size of activations from layer to layer."""
    random = np.random.RandomState(seed)
    return {key: _array(random, key, shape) for key, shape in used_shapes(name).items()}


# Mean squares of a convolution's result over that of its input, by what its key holds; others have
# 2, which makes up for the ReLU. Sums need less, and a sigmoid would saturate.
GAINS = {"resConfUnit": 0.5, "decoder.": 1}
GAINS |= {f"decoder.{index}.": 0.02 for index in (10, 11, 12, 13)}


def _array(random, key, shape):
    part = key.rsplit(".", 1)[-1]
    if part == "running_var":
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 1 and part == "weight":
        # the last norm of a residual unit is small, or the sums would grow from unit to unit
        values = random.uniform(0.5, 1.5, shape) * (0.3 if key.endswith("bn3.weight") else 1)
    elif len(shape) == 1:
        # most of the output shall lie above the ReLU at its end
        values = random.standard_normal(shape) * 0.1 + (key == "scratch.output_conv.4.bias")
    else:
        gain = [gain for name, gain in GAINS.items() if name in key] or [2]
        values = random.standard_normal(shape) * np.sqrt(gain[-1] / np.prod(shape[1:]))
    return values.astype(np.float32)


def pydnet_weights(seed=0):
    """Weights (O, k, k, I) of the published shapes under the keys of its TensorFlow graph."""
    random, arrays = np.random.RandomState(seed), {}

    def conv(path, inputs, outputs, kernel=3, names=("weights", "Conv2D_bias")):
        scale = np.sqrt(2 / (inputs * kernel**2))
        shape = (outputs, kernel, kernel, inputs)
        arrays[f"PSD/{path}/{names[0]}"] = scale * random.standard_normal(shape)
        arrays[f"PSD/{path}/{names[1]}"] = 0.1 * random.standard_normal(outputs)

    widths = (16, 32, 64, 96, 128, 192)
    for level, width in enumerate(widths, start=1):
        conv(f"encoder/conv{level}a", widths[level - 2] if level > 1 else 3, width)
        conv(f"encoder/conv{level}b", width, width)
        key, inputs = f"decoder/L{level}", width if level == 6 else width + 8
        for number, outputs in ((3, 96), (4, 64), (5, 32), (6, 8)):
            conv(f"{key}/estimator/disp-{number}", inputs, outputs)
            inputs = outputs
        if level > 1:
            conv(f"{key}/upsampler", 8, 8, 2, ("weights_transposed", "biases"))
        if level < 4:
            conv(f"{key}/estimator", 8, 1)
    return {key: array.astype(np.float32) for key, array in arrays.items()}


SIZES = {
    "monodepth2": (1, 3, 64, 96),
    "midas-small": (2, 3, 32, 64),
    "midas-large": (2, 3, 64, 32),
    "hourglass": (1, 3, 32, 48),
}


def input_of(name, seed=7):
    """A batch of pictures; flat areas would tie in max pools."""
    return np.random.RandomState(seed).random_sample(SIZES[name]).astype(np.float32)


def direction(shape):
    """What the outputs are multiplied with before they are summed."""
    return np.random.RandomState(8).standard_normal(shape).astype(np.float32)


def label(name):
    """What an output is called in the golden file: disp_0 for ("disp", 0)."""
    return name if isinstance(name, str) else "_".join(map(str, name))


def thinned(gradient):
    """The values of a gradient that the golden file keeps."""
    return gradient.reshape(-1)[::3]
