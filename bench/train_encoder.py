"""Train the embedded encoder: VGG19 to relu4_1 at a quarter of the width.

Starts from the distilled encoder 4SE of Wang et al., "Collaborative Distillation for
Ultra-Resolution Universal Style Transfer" (CVPR 2020; MIT licence), which has the same widths but
a 1x1 colour convolution, inputs in 0..1 and reflection padding.  The colour convolution and the
ImageNet normalisation are folded into conv1_1 and every channel is rescaled to a mean activation
of one, as in the normalised VGG of Gatys et al.; both steps are exact away from the border.  Adam
then distils with zero padding from two teachers: the features of 4SE, and those of the
full-width normalised VGG-19 (Apache-2.0) read out from the student by one linear map per layer.

Needs PyTorch, which the package itself never imports:

    python bench/train_encoder.py --data ../shared/data

writes depthstyle/weights/encoder.safetensors and bench/results/encoder.md.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (16, 16, "pool", 32, 32, "pool", 64, 64, 64, 64, "pool", 128)
NAMES = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1")
INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19)
STYLE_LAYERS = ("1_1", "2_1", "3_1", "4_1")
POOL_BEFORE = ("2_1", "3_1", "4_1")
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def encode(parameters, image, padding):
    """Return the ReLU output of every convolution of a VGG19-like stack."""
    outputs = {}
    for name, (weight, bias) in zip(NAMES, parameters, strict=False):
        if name in POOL_BEFORE:
            image = F.max_pool2d(image, 2)
        image = F.relu(F.conv2d(F.pad(image, (1, 1, 1, 1), mode=padding), weight, bias))
        outputs[name] = image
    return outputs


def load_teachers(folder):
    """Return (colour weight, colour bias, layers) of 4SE and of the normalised VGG-19."""
    small = torch.load(folder / "vgg19_16x_wct/4SE.pth", map_location="cpu", weights_only=True)[
        "model"
    ]
    pairs = [
        (small[f"conv{n.replace('_', '')}.weight"], small[f"conv{n.replace('_', '')}.bias"])
        for n in NAMES
    ]
    wide = torch.load(
        folder / "vgg19_normalised/vgg_normalised_conv3_1.pth",
        map_location="cpu",
        weights_only=True,
    )
    wide_pairs = [(wide[f"{i}.weight"], wide[f"{i}.bias"]) for i in (2, 5, 9, 12, 16)]
    return (
        (small["conv0.weight"], small["conv0.bias"], pairs),
        (wide["0.weight"], wide["0.bias"], wide_pairs),
    )


def run_teacher(teacher, image):
    weight, bias, pairs = teacher
    return encode(pairs, F.conv2d(image, weight, bias), "reflect")


def fold_colour(teacher):
    """Fold the 1x1 colour convolution and the ImageNet normalisation into conv1_1."""
    colour, colour_bias, pairs = teacher
    weight, bias = pairs[0]
    matrix = colour[:, :, 0, 0]
    offset = matrix @ MEAN.view(3) + colour_bias
    folded = torch.einsum("ochw,cd->odhw", weight, matrix * STD.view(1, 3))
    return [(folded, bias + weight.sum((2, 3)) @ offset), *pairs[1:]]


def rescale_channels(pairs, means):
    """Give every channel of every layer a mean activation of one, leaving the function alone."""
    scaled, before = [], torch.ones(3)
    for name, (weight, bias) in zip(NAMES, pairs, strict=True):
        after = means[name]
        scaled.append((weight * before.view(1, -1, 1, 1) / after.view(-1, 1, 1, 1), bias / after))
        before = after
    return scaled


def read_picture(path):
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def random_batch(pictures, rng, batch, side):
    """Cut square crops, mirrored half of the time."""
    crops = []
    for index in rng.integers(len(pictures), size=batch):
        picture = pictures[index]
        top = rng.integers(picture.shape[2] - side + 1)
        left = rng.integers(picture.shape[3] - side + 1)
        crop = picture[:, :, top : top + side, left : left + side]
        crops.append(crop.flip(3) if rng.random() < 0.5 else crop)
    return torch.cat(crops)


@torch.no_grad()
def channel_means(teacher, pictures):
    """Mean activation of each channel, held above 1 % of the mean of its layer."""
    totals = {name: 0.0 for name in NAMES}
    for picture in pictures:
        for name, features in run_teacher(teacher, picture).items():
            totals[name] = totals[name] + features.mean((0, 2, 3)) / len(pictures)
    return {name: total.clamp(min=float(total.mean()) * 1e-2) for name, total in totals.items()}


def relative_error(value, target):
    return (value - target).square().sum() / target.square().sum()


class ReadOut(torch.nn.Module):
    """One linear map per layer from the student's channels to the wide teacher's, then a ReLU."""

    def __init__(self, student_widths, wide_widths):
        super().__init__()
        self.maps = torch.nn.ModuleDict(
            {n: torch.nn.Conv2d(student_widths[n], wide_widths[n], 1) for n in wide_widths}
        )

    @torch.no_grad()
    def fit(self, parameters, wide, pictures):
        """Set every map to the least-squares solution over the pictures."""
        moments = {}
        for picture in pictures:
            student = encode(parameters, (picture - MEAN) / STD, "constant")
            target = run_teacher(wide, picture)
            for name in self.maps:
                a = student[name][0].flatten(1).double()
                a = torch.cat([a, torch.ones(1, a.shape[1], dtype=a.dtype)])
                b = target[name][0].flatten(1).double()
                old = moments.get(name, (0.0, 0.0))
                moments[name] = (old[0] + a @ a.T, old[1] + a @ b.T)
        for name, (gram, cross) in moments.items():
            ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
            solution = torch.linalg.solve(gram + ridge, cross).T.float()
            self.maps[name].weight.copy_(solution[:, :-1, None, None])
            self.maps[name].bias.copy_(solution[:, -1])

    def forward(self, features):
        return {name: F.relu(layer(features[name])) for name, layer in self.maps.items()}


@torch.no_grad()
def evaluate(parameters, readout, means, teachers, pictures):
    """Return the relative L2 per layer, to 4SE and through the read-outs to VGG-19."""
    small, wide = teachers
    errors = {}
    for picture in pictures:
        student = encode(parameters, (picture - MEAN) / STD, "constant")
        for name, target in run_teacher(small, picture).items():
            target = target / means[name].view(1, -1, 1, 1)
            errors.setdefault(("4SE", name), []).append(relative_error(student[name], target))
        target = run_teacher(wide, picture)
        for name, value in readout(student).items():
            errors.setdefault(("VGG-19", name), []).append(relative_error(value, target[name]))
    return {key: float(torch.stack(values).mean().sqrt()) for key, values in errors.items()}


def train(parameters, readout, means, teachers, pictures, args):
    small, wide = teachers
    student = [tensor.requires_grad_() for pair in parameters for tensor in pair]
    adam = torch.optim.Adam([*student, *readout.parameters()], lr=args.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, args.rate, args.iterations, pct_start=0.1, cycle_momentum=False
    )
    rng = np.random.default_rng(args.seed)
    start = time.monotonic()
    for step in range(args.iterations):
        batch = random_batch(pictures, rng, args.batch, args.side)
        with torch.no_grad():
            small_target = run_teacher(small, batch)
            wide_target = run_teacher(wide, batch)
        features = encode(parameters, (batch - MEAN) / STD, "constant")
        loss = sum(
            relative_error(features[n], small_target[n] / means[n].view(1, -1, 1, 1)) for n in NAMES
        )
        read = readout(features)
        loss = loss + sum(relative_error(read[n], wide_target[n]) for n in read)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step % 50 == 0 or step == args.iterations - 1:
            seconds = time.monotonic() - start
            left = seconds / (step + 1) * (args.iterations - step - 1)
            print(f"step {step:5d}  loss {loss.item():.4f}  {left:.0f} s left", flush=True)
    for tensor in student:
        tensor.requires_grad_(False)


def write_report(path, before, after, args, held_out, size):
    lines = [
        "# Embedded encoder",
        "",
        f"`python bench/train_encoder.py --iterations {args.iterations} --seed {args.seed}`: "
        f"{args.iterations} steps of Adam on {args.batch} crops of {args.side}x{args.side}, "
        f"PyTorch {torch.__version__.split('+')[0]}, {size:,} bytes.",
        "",
        f"Relative L2 (norm of the difference over norm of the target) on {held_out} whole "
        "photographs left out of training, as stored in fp16. `start`: weights folded, not yet "
        "trained. Channels of 4SE are scaled to a mean of one; VGG-19 is read out by one linear "
        "map per layer.",
        "",
        "| teacher | layer | start | trained |",
        "| --- | --- | --- | --- |",
    ]
    for (teacher, name), value in after.items():
        lines.append(f"| {teacher} | relu{name} | {before[teacher, name]:.3f} | {value:.3f} |")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "depthstyle/weights/encoder.safetensors"
    )
    parser.add_argument("--report", type=Path, default=ROOT / "bench/results/encoder.md")
    parser.add_argument("--iterations", type=int, default=900)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--side", type=int, default=176)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    photos = sorted((args.data / "train_photos").glob("*.jpg"))
    held_out = [read_picture(path) for path in photos[::60]]
    training = [path for index, path in enumerate(photos) if index % 60]
    training += sorted((args.data / "paintings").glob("*.jpg"))
    pictures = [read_picture(path) for path in training]
    pictures = [picture for picture in pictures if min(picture.shape[2:]) >= args.side]
    fitting = pictures[::50]

    teachers = small, wide = load_teachers(args.data / "features")
    means = channel_means(small, fitting)
    parameters = rescale_channels(fold_colour(small), means)
    student_widths = {n: pair[0].shape[0] for n, pair in zip(NAMES, parameters, strict=True)}
    wide_widths = {n: pair[0].shape[0] for n, pair in zip(NAMES, wide[2], strict=False)}
    readout = ReadOut(student_widths, wide_widths)
    readout.fit(parameters, wide, fitting)
    before = evaluate(parameters, readout, means, teachers, held_out)
    train(parameters, readout, means, teachers, pictures, args)

    halves = [(w.half(), b.half()) for w, b in parameters]
    stored = {
        f"features.{index}.{kind}": tensor.numpy()
        for index, pair in zip(INDICES, halves, strict=True)
        for kind, tensor in zip(("weight", "bias"), pair, strict=True)
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, args.output, metadata={"architecture": "vgg19", "licence": "BSD-3-Clause"})
    rounded = [(w.float(), b.float()) for w, b in halves]
    after = evaluate(rounded, readout, means, teachers, held_out)
    write_report(args.report, before, after, args, len(held_out), args.output.stat().st_size)


if __name__ == "__main__":
    main()
