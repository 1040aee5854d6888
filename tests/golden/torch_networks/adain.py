"""AdaIN's encoder and decoder as PyTorch modules, with the published names of their parts."""

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)


def encoder(widths=WIDTHS):
    """From RGB in [0, 1] to relu4_1."""
    children, inputs = [nn.Conv2d(3, 3, 1)], 3
    for block, count in enumerate((2, 2, 4, 1)):
        if block:
            children.append(nn.MaxPool2d(2, 2, 0, ceil_mode=True))
        for _ in range(count):
            children += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, widths[block], 3), nn.ReLU()]
            inputs = widths[block]
    return nn.Sequential(*children)


def decoder(widths=WIDTHS):
    """From features of relu4_1 to a picture eight times as large."""
    a, b, c, d = widths
    children = []
    for inputs, outputs, doubled in (
        *((d, c, True), (c, c, False), (c, c, False), (c, c, False), (c, b, True)),
        *((b, b, False), (b, a, True), (a, a, False)),
    ):
        children += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3), nn.ReLU()]
        if doubled:
            children.append(nn.Upsample(scale_factor=2, mode="nearest"))
    return nn.Sequential(*children, nn.ReflectionPad2d(1), nn.Conv2d(a, 3, 3))


def moments(features):
    """Mean and standard deviation of each map, as the published code has them."""
    variance, mean = torch.var_mean(features, (2, 3), keepdim=True, unbiased=True)
    return mean, (variance + 1e-5).sqrt()
