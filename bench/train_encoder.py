"""Train the embedded encoder: VGG19 to relu4_1 at a quarter of the width.

Starts from the distilled encoder 4SE of Wang et al., "Collaborative Distillation for
Ultra-Resolution Universal Style Transfer" (CVPR 2020; MIT licence), which has the same widths but
a 1x1 colour convolution, inputs in 0..1 and reflection padding.  The colour convolution and the
ImageNet normalisation are folded into conv1_1 and every layer is rescaled to a mean activation of
one, so that Gram matrices are comparable between layers; both steps are exact away from the
border.  Adam then teaches the network, with zero padding, the features that 4SE has with
reflection padding.

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
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1")
INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19)
POOL_BEFORE = ("2_1", "3_1", "4_1")
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def encode(parameters, image, padding):
    """Return the ReLU output of every convolution of a VGG19-like stack."""
    outputs = {}
    for name, (weight, bias) in zip(NAMES, parameters, strict=True):
        if name in POOL_BEFORE:
            image = F.max_pool2d(image, 2)
        image = F.relu(F.conv2d(F.pad(image, (1, 1, 1, 1), mode=padding), weight, bias))
        outputs[name] = image
    return outputs


def load_teacher(path):
    """Return (colour weight, colour bias, [(weight, bias) of every convolution]) of 4SE."""
    stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
    stems = ["conv" + name.replace("_", "") for name in NAMES]
    pairs = [(stored[f"{stem}.weight"], stored[f"{stem}.bias"]) for stem in stems]
    return stored["conv0.weight"], stored["conv0.bias"], pairs


def run_teacher(teacher, image):
    weight, bias, pairs = teacher
    return encode(pairs, F.conv2d(image, weight, bias), "reflect")


def read_encoder(path):
    stored = {key: torch.from_numpy(value).float() for key, value in load_file(path).items()}
    return [(stored[f"features.{i}.weight"], stored[f"features.{i}.bias"]) for i in INDICES]


def fold_colour(teacher):
    """Fold the 1x1 colour convolution and the ImageNet normalisation into conv1_1."""
    colour, colour_bias, pairs = teacher
    weight, bias = pairs[0]
    matrix = colour[:, :, 0, 0]
    offset = matrix @ MEAN.view(3) + colour_bias
    folded = torch.einsum("ochw,cd->odhw", weight, matrix * STD.view(1, 3))
    # safetensors stores memory as it lies, and einsum leaves a permuted layout
    return [(folded.contiguous(), bias + weight.sum((2, 3)) @ offset), *pairs[1:]]


def rescale_layers(pairs, means):
    """Divide the activations of every layer by their mean, leaving the function alone."""
    scaled, before = [], 1.0
    for name, (weight, bias) in zip(NAMES, pairs, strict=True):
        scaled.append((weight * (before / means[name]), bias / means[name]))
        before = means[name]
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
def layer_means(teacher, pictures):
    """Return the mean activation of each layer of the teacher over the pictures."""
    totals = dict.fromkeys(NAMES, 0.0)
    for picture in pictures:
        for name, features in run_teacher(teacher, picture).items():
            totals[name] += features.mean().item() / len(pictures)
    return totals


def relative_errors(parameters, means, teacher, pictures):
    """Squared relative L2 of every layer: |student - teacher|^2 / |teacher|^2."""
    with torch.no_grad():
        targets = run_teacher(teacher, pictures)
    features = encode(parameters, (pictures - MEAN) / STD, "constant")
    return {
        name: (features[name] * means[name] - target).square().sum() / target.square().sum()
        for name, target in targets.items()
    }


@torch.no_grad()
def evaluate(parameters, means, teacher, pictures):
    """Return the relative L2 of every layer, the root mean square over whole pictures."""
    errors = [relative_errors(parameters, means, teacher, picture) for picture in pictures]
    return {n: torch.stack([error[n] for error in errors]).mean().sqrt().item() for n in NAMES}


def train(parameters, means, teacher, pictures, args):
    student = [tensor.requires_grad_() for pair in parameters for tensor in pair]
    adam = torch.optim.Adam(student, lr=args.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, args.rate, args.iterations, pct_start=0.1, cycle_momentum=False
    )
    rng = np.random.default_rng(args.seed)
    start = time.monotonic()
    for step in range(args.iterations):
        batch = random_batch(pictures, rng, args.batch, args.side)
        loss = sum(relative_errors(parameters, means, teacher, batch).values())
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
        "Relative L2 to the teacher 4SE (norm of the difference over norm of the teacher's "
        f"features) on {held_out} whole photographs left out of training, as stored in fp16. "
        "`start`: weights folded, not yet trained; what is left is the border, which the teacher "
        "pads by reflection and the student with zeros.",
        "",
        "| layer | start | trained |",
        "| --- | --- | --- |",
    ]
    lines += [f"| relu{name} | {before[name]:.3f} | {after[name]:.3f} |" for name in NAMES]
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
    parser.add_argument("--iterations", type=int, default=400)
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

    teacher = load_teacher(args.data / "features/vgg19_16x_wct/4SE.pth")
    means = layer_means(teacher, pictures[::50])
    parameters = rescale_layers(fold_colour(teacher), means)
    before = evaluate(parameters, means, teacher, held_out)
    train(parameters, means, teacher, pictures, args)

    stored = {
        f"features.{index}.{kind}": tensor.half().numpy()
        for index, pair in zip(INDICES, parameters, strict=True)
        for kind, tensor in zip(("weight", "bias"), pair, strict=True)
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, args.output, metadata={"architecture": "vgg19", "licence": "BSD-3-Clause"})
    after = evaluate(read_encoder(args.output), means, teacher, held_out)
    write_report(args.report, before, after, args, len(held_out), args.output.stat().st_size)


if __name__ == "__main__":
    main()
