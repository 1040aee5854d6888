"""The published depth networks as PyTorch modules, with the published names of their parts."""

import depth_weights as tables
import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample(inputs, width, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride, first):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=32, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = downsample(inputs, width, stride) if first else nn.Identity()

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def downsample(inputs, width, stride):
    return nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for stage, (inputs, width) in enumerate(tables.RESNET18, start=1):
            blocks = BasicBlock(inputs, width, 1 if stage == 1 else 2), BasicBlock(width, width, 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x):
        maps = [F.relu(self.bn1(self.conv1(x)))]
        x = F.max_pool2d(maps[0], 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class Conv3x3(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3)

    def forward(self, x):
        return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = Conv3x3(inputs, outputs)

    def forward(self, x):
        return F.elu(self.conv(x))


class Monodepth2(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = ResNet18()
        self.decoder = nn.ModuleList(ConvBlock(*pair) for pair in tables.MONODEPTH2_CONVS)
        self.decoder.extend(Conv3x3(inputs, 1) for inputs in (16, 32, 64, 128))

    def forward(self, x):
        maps, found = self.encoder((x - 0.45) / 0.225), {}
        x = maps[-1]
        for place, level in enumerate((4, 3, 2, 1, 0)):
            x = F.interpolate(self.decoder[2 * place](x), scale_factor=2, mode="nearest")
            if level:
                x = torch.cat([x, maps[level - 1]], 1)
            x = self.decoder[2 * place + 1](x)
            if level < 4:
                found["disp", level] = torch.sigmoid(self.decoder[10 + level](x))
        return found


def same_conv(conv, x):
    """TensorFlow's SAME padding, from the definition: outputs = ceil(size / stride)."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        outputs = -(-size // conv.stride[0])
        total = max((outputs - 1) * conv.stride[0] + conv.kernel_size[0] - size, 0)
        pads += [total // 2, total - total // 2]
    return conv(F.pad(x, pads))


def lite_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class Separable(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, groups=inputs, bias=False)
        self.bn1 = lite_norm(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = lite_norm(outputs)

    def forward(self, x):
        return self.bn2(self.conv_pw(F.relu6(self.bn1(same_conv(self.conv_dw, x)))))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        middle = 6 * inputs
        self.conv_pw = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = lite_norm(middle)
        self.conv_dw = nn.Conv2d(middle, middle, kernel, stride, groups=middle, bias=False)
        self.bn2 = lite_norm(middle)
        self.conv_pwl = nn.Conv2d(middle, outputs, 1, bias=False)
        self.bn3 = lite_norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(same_conv(self.conv_dw, y)))
        y = self.bn3(self.conv_pwl(y))
        return y + x if self.residual else y


class Stem(nn.Conv2d):
    def forward(self, x):
        pads = [0, 0, 0, 0]
        for axis, size in ((0, x.shape[3]), (2, x.shape[2])):
            total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
            pads[axis : axis + 2] = total // 2, total - total // 2
        return super().forward(F.pad(x, pads))


class ResidualUnit(nn.Module):
    def __init__(self, width, in_place):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.in_place = in_place

    def forward(self, x):
        if self.in_place:
            x = F.relu(x)
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + x


class Fusion(nn.Module):
    def __init__(self, width, out, in_place):
        super().__init__()
        self.resConfUnit1 = ResidualUnit(width, in_place)
        self.resConfUnit2 = ResidualUnit(width, in_place)
        self.out_conv = nn.Conv2d(width, out, 1) if out else nn.Identity()

    def forward(self, path, skip=None):
        if skip is not None:
            path = path + self.resConfUnit1(skip)
        path = self.resConfUnit2(path)
        path = F.interpolate(path, scale_factor=2, mode="bilinear", align_corners=True)
        return self.out_conv(path)


class Scratch(nn.Module):
    def __init__(self, taps, widths, outs, halves, in_place):
        super().__init__()
        for level, (tap, width) in enumerate(zip(taps, widths, strict=True), start=1):
            setattr(self, f"layer{level}_rn", nn.Conv2d(tap, width, 3, 1, 1, bias=False))
            out = outs[level - 1] if outs else None
            setattr(self, f"refinenet{level}", Fusion(width, out, in_place))
        self.output_conv = nn.Sequential(
            nn.Conv2d(outs[0] if outs else widths[0], halves[0], 3, 1, 1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(halves[0], halves[1], 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(halves[1], 1, 1),
            nn.ReLU(),
        )

    def forward(self, taps):
        skips = [getattr(self, f"layer{i}_rn")(tap) for i, tap in enumerate(taps, start=1)]
        path = self.refinenet4(skips[3])
        for level in (3, 2, 1):
            path = getattr(self, f"refinenet{level}")(path, skips[level - 1])
        return self.output_conv(path).squeeze(1)


class Midas(nn.Module):
    def __init__(self, layers, scratch):
        super().__init__()
        self.pretrained = nn.Module()
        for number, layer in enumerate(layers, start=1):
            setattr(self.pretrained, f"layer{number}", layer)
        self.scratch = scratch

    def forward(self, x):
        taps = []
        for number in (1, 2, 3, 4):
            x = getattr(self.pretrained, f"layer{number}")(x)
            taps.append(x)
        return self.scratch(taps)


def midas_small():
    stages = [
        nn.Sequential(
            *(
                Inverted(outputs if i else inputs, outputs, kernel, 1 if i else stride)
                for i in range(repeats)
            )
        )
        for (_, kernel, inputs, outputs, repeats), stride in zip(
            tables.MIDAS_SMALL_STAGES, (2, 2, 2, 1, 2, 1), strict=True
        )
    ]
    stem = Stem(3, 32, 3, 2, bias=False), lite_norm(32), nn.ReLU6()
    layers = [
        nn.Sequential(*stem, nn.Sequential(Separable(32, 24)), stages[0]),
        nn.Sequential(stages[1]),
        nn.Sequential(stages[2], stages[3]),
        nn.Sequential(stages[4], stages[5]),
    ]
    widths, outs = (64, 128, 256, 512), (64, 64, 128, 256)
    return Midas(layers, Scratch((32, 48, 136, 384), widths, outs, (32, 32), False))


def midas_large(divisor):
    inputs, stages = 64 // divisor, []
    for place, (_, channels, repeats) in enumerate(tables.MIDAS_LARGE_STAGES):
        width, blocks = channels // divisor, []
        for block in range(repeats):
            stride = 2 if place and block == 0 else 1
            blocks.append(Bottleneck(inputs, width, stride, block == 0))
            inputs = width
        stages.append(nn.Sequential(*blocks))
    stem = 64 // divisor
    first = nn.Sequential(
        nn.Conv2d(3, stem, 7, 2, 3, bias=False),
        nn.BatchNorm2d(stem),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        stages[0],
    )
    taps = [channels // divisor for _, channels, _ in tables.MIDAS_LARGE_STAGES]
    widths, halves = (256 // divisor,) * 4, (128 // divisor, 32 // divisor)
    return Midas([first, *stages[1:]], Scratch(taps, widths, (), halves, True))


class Concat(nn.Module):
    """Branches whose results are joined along the channels; children are numbered from 0."""

    def __init__(self, *branches):
        super().__init__()
        for number, branch in enumerate(branches):
            self.add_module(str(number), branch)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.children()], 1)


class Sum(Concat):
    def forward(self, x):
        first, second = (branch(x) for branch in self.children())
        return first + second


def inception(kind):
    inputs, first, *branches = tables.INCEPTIONS[kind]

    def unit(i, o, k):
        conv = nn.Conv2d(i, o, k, padding=k // 2)
        return conv, nn.BatchNorm2d(o, affine=False), nn.ReLU()

    return Concat(
        nn.Sequential(*unit(inputs, first, 1)),
        *(nn.Sequential(*unit(inputs, r, 1), *unit(r, o, k)) for k, r, o in branches),
    )


def level(*branches):
    """A level of the hourglass: a sequence whose node 0 adds its two branches."""
    return nn.Sequential(Sum(*(nn.Sequential(*branch) for branch in branches)))


def kinds(letters):
    return [inception(letter) for letter in letters]


def hourglass():
    def up():
        return nn.Upsample(scale_factor=2, mode="nearest")

    one = level(kinds("CC"), [nn.AvgPool2d(2), *kinds("CCC"), up()])
    two = level(kinds("CD"), [nn.AvgPool2d(2), *kinds("CC"), one, *kinds("CD"), up()])
    three = level([nn.MaxPool2d(2), *kinds("AB"), two, *kinds("CE"), up()], kinds("AF"))
    four = level([nn.MaxPool2d(2), *kinds("AA"), three, *kinds("GH"), up()], kinds("I"))
    stem = nn.Conv2d(3, 128, 7, padding=3), nn.BatchNorm2d(128), nn.ReLU()
    return nn.Sequential(*stem, four, nn.Conv2d(64, 1, 3, padding=1))


def build(name, divisor=1):
    """Return a network in evaluation mode; `divisor` narrows midas-large."""
    builders = {
        "monodepth2": Monodepth2,
        "midas-small": midas_small,
        "midas-large": lambda: midas_large(divisor),
        "hourglass": hourglass,
    }
    return builders[name]().eval()
