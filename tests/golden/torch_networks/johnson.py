"""The three published forms of Johnson et al.'s network, from their descriptions.

`PytorchExamples` is a module with the published keys; the other two forms were never published for
PyTorch and are functions of the arrays of their files.
"""

import torch
import torch.nn.functional as F
from torch import nn


class _Convolution(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, scale=1):
        super().__init__()
        self.scale, self.margin = scale, kernel // 2
        self.conv2d = nn.Conv2d(inputs, outputs, kernel, stride)

    def forward(self, x):
        if self.scale > 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return self.conv2d(F.pad(x, (self.margin,) * 4, mode="reflect"))


class _Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = _Convolution(channels, channels, 3)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = _Convolution(channels, channels, 3)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x):
        y = F.relu(self.in1(self.conv1(x)))
        return x + self.in2(self.conv2(y))


class PytorchExamples(nn.Module):
    """The network of pytorch/examples: RGB 0..255 in and out."""

    def __init__(self):
        super().__init__()
        self.conv1, self.in1 = _Convolution(3, 32, 9), nn.InstanceNorm2d(32, affine=True)
        self.conv2, self.in2 = _Convolution(32, 64, 3, 2), nn.InstanceNorm2d(64, affine=True)
        self.conv3, self.in3 = _Convolution(64, 128, 3, 2), nn.InstanceNorm2d(128, affine=True)
        for i in range(1, 6):
            setattr(self, f"res{i}", _Residual(128))
        self.deconv1 = _Convolution(128, 64, 3, scale=2)
        self.in4 = nn.InstanceNorm2d(64, affine=True)
        self.deconv2 = _Convolution(64, 32, 3, scale=2)
        self.in5 = nn.InstanceNorm2d(32, affine=True)
        self.deconv3 = _Convolution(32, 3, 9)

    def forward(self, x):
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"in{i}")(getattr(self, f"conv{i}")(x)))
        for i in range(1, 6):
            x = getattr(self, f"res{i}")(x)
        x = F.relu(self.in4(self.deconv1(x)))
        x = F.relu(self.in5(self.deconv2(x)))
        return self.deconv3(x)


def pytorch_examples(weights, x):
    """The same as a function of its arrays, in their precision."""
    network = PytorchExamples().to(x.dtype)
    network.load_state_dict(weights)
    return network(x)


def original(weights, x, root="model", blocks=5, upsampling="transposed"):
    """The network of fast-neural-style with `reflect-start`: BGR 0..255 minus the Caffe mean.

    Keys are the paths in its file, as in ``model.modules.2.weight``. Norms with `running_mean`
    are batch norms, others instance norms. `upsampling` "nearest" is the variant whose arch string
    has ``U2,c3s1-N`` in place of ``uN``.
    """
    place = 2

    def conv(key, x, **options):
        return F.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], **options)

    def norm(key, x):
        gamma, beta = weights[f"{key}.weight"], weights[f"{key}.bias"]
        if f"{key}.running_mean" in weights:
            mean, variance = weights[f"{key}.running_mean"], weights[f"{key}.running_var"]
            return F.batch_norm(x, mean, variance, gamma, beta, eps=1e-5)
        return F.instance_norm(x, weight=gamma, bias=beta, eps=1e-5)

    def module(step=1):
        nonlocal place
        place += step
        return f"{root}.modules.{place - step}"

    x = F.pad(x, (8 * blocks,) * 4, mode="reflect")
    for padding, stride in ((4, 1), (1, 2), (1, 2)):
        x = conv(module(), x, stride=stride, padding=padding)
        x = F.relu(norm(module(2), x))
    for _ in range(blocks):
        block = f"{module()}.modules.1.modules.1"
        y = F.relu(norm(f"{block}.modules.2", conv(f"{block}.modules.1", x)))
        y = norm(f"{block}.modules.5", conv(f"{block}.modules.4", y))
        x = y + x[:, :, 2:-2, 2:-2]
    for _ in range(2):
        if upsampling == "nearest":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            module()
            x = F.relu(norm(module(2), x))
            x = conv(module(), x, padding=1)
        else:
            key = module()
            weight, bias = weights[f"{key}.weight"], weights[f"{key}.bias"]
            x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
        x = F.relu(norm(module(2), x))
    return 150 * torch.tanh(conv(module(), x, padding=4))


def _same(x, kernel, stride):
    """Zero padding to ceil(size / stride) outputs, the odd pixel behind."""
    sides = []
    for size in (x.shape[3], x.shape[2]):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


def lengstrom(weights, x):
    """The network of lengstrom/fast-style-transfer from a deeplearn.js folder: RGB 0..255."""

    def array(index):
        return weights["Variable" if index == 0 else f"Variable_{index}"]

    def layer(index, x, stride=1, transposed=False, relu=True):
        if transposed:
            weight = array(index).permute(3, 2, 0, 1)
            x = F.conv_transpose2d(x, weight, stride=2)[:, :, :-1, :-1]
        else:
            weight = array(index).permute(3, 2, 0, 1)
            x = F.conv2d(_same(x, weight.shape[2], stride), weight, stride=stride)
        shift, scale = array(index + 1), array(index + 2)
        x = F.instance_norm(x, weight=scale, bias=shift, eps=1e-3)
        return F.relu(x) if relu else x

    x = layer(6, layer(3, layer(0, x), stride=2), stride=2)
    for index in range(9, 39, 6):
        x = x + layer(index + 3, layer(index, x), relu=False)
    x = layer(42, layer(39, x, transposed=True), transposed=True)
    return 150 * torch.tanh(layer(45, x, relu=False)) + 127.5
