"""Weights and pictures from a seed, the same on every machine and in PyTorch."""

import numpy as np

VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4), "encoder": (2, 2, 4, 1)}
VGG_WIDTHS = (64, 128, 256, 512, 512)
FIRES = {3: (16, 64), 4: (16, 64), 6: (32, 128), 7: (32, 128), 9: (48, 192), 10: (48, 192)}
FIRES |= {11: (64, 256), 12: (64, 256)}
ADAIN_ENCODER = ("0", "2", "5", "9", "12", "16", "19", "22", "25", "29")
ADAIN_DECODER = ("1", "5", "8", "11", "14", "18", "21", "25", "28")


def convolution(random, key, inputs, outputs, kernel):
    """He-scaled weight and small bias of one convolution."""
    shape = (outputs, inputs, kernel, kernel)
    scale = np.sqrt(2 / (inputs * kernel**2))
    return {
        f"{key}.weight": (random.standard_normal(shape) * scale).astype(np.float32),
        f"{key}.bias": (random.standard_normal(outputs) * 0.05).astype(np.float32),
    }


def vgg_weights(name, seed=0, widths=VGG_WIDTHS):
    random = np.random.RandomState(seed)
    weights, index, channels = {}, 0, 3
    for count, width in zip(VGG_BLOCKS[name], widths, strict=False):
        for _ in range(count):
            weights |= convolution(random, f"features.{index}", channels, width, 3)
            index, channels = index + 2, width
        index += 1
    return weights


def encoder_weights(seed=0):
    return vgg_weights("encoder", seed, widths=(16, 32, 64, 128))


def squeezenet_weights(seed=0):
    random = np.random.RandomState(seed)
    weights = convolution(random, "features.0", 3, 64, 3)
    channels = 64
    for index, (squeezed, expanded) in FIRES.items():
        key = f"features.{index}"
        weights |= convolution(random, f"{key}.squeeze", channels, squeezed, 1)
        weights |= convolution(random, f"{key}.expand1x1", squeezed, expanded, 1)
        weights |= convolution(random, f"{key}.expand3x3", squeezed, expanded, 3)
        channels = 2 * expanded
    return weights


def adain_weights(widths=(4, 5, 6, 7), seed=0):
    """Encoder and decoder of AdaIN under the published keys."""
    random, (a, b, c, d) = np.random.RandomState(seed), widths
    encoder, inputs = convolution(random, "0", 3, 3, 1), 3
    for key, width in zip(ADAIN_ENCODER[1:], (a, a, b, b, c, c, c, c, d), strict=True):
        encoder |= convolution(random, key, inputs, width, 3)
        inputs = width
    decoder = {}
    for key, width in zip(ADAIN_DECODER, (c, c, c, c, b, b, a, a, 3), strict=True):
        decoder |= convolution(random, key, inputs, width, 3)
        inputs = width
    return encoder, decoder


def weights(name, seed=0):
    return squeezenet_weights(seed) if name == "squeezenet1_1" else vgg_weights(name, seed)


def picture(seed, height=40, width=32):
    """A textured picture (height, width, 3) in [0, 1]; flat areas would tie in max pools."""
    random = np.random.RandomState(seed)
    noise = random.random_sample((height, width, 3))
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / a + x / b + seed) for a, b in ((3.0, 7.0), (-5.0, 4.0), (9.0, -2.5))]
    return (0.5 + 0.25 * np.stack(waves, axis=-1) + 0.4 * (noise - 0.5)).clip(0, 1).astype("f4")


def depth(height=40, width=32):
    """A depth map (height, width) that rises from left to right."""
    column = np.linspace(0, 1, width, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(column, (height, width)))


def layer_mask(height, width):
    """A mask (height, width) that falls from left to right, made for one layer's size."""
    column = np.linspace(1, 0.1, width, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(column, (height, width)))
