"""Train the embedded decoder of AdaIN for the embedded encoder.

The decoder mirrors the encoder (nearest upsampling where that pools, reflection padding,
128-64-64-64-64-32-32-16-16-3 channels) under the keys of the published AdaIN decoder.  It starts
from the distilled decoder 4SD of Wang et al., "Collaborative Distillation for Ultra-Resolution
Universal Style Transfer" (CVPR 2020; MIT licence), which turns features of 4SE back into pictures:
the embedded encoder comes from 4SE, and one factor between their features is folded into the first
layer.  Adam then minimises, on pairs of a photograph and a painting with t = AdaIN(f(c), f(s)) and
the picture x = g(t),

    |f(x) - t|^2 / |t|^2
    + style * sum over relu1_1, 2_1, 3_1, 4_1 of
          |mean(x) - mean(s)|^2 / |mean(s)|^2 + |std(x) - std(s)|^2 / |std(s)|^2
    + tv * mean absolute difference of neighbours
    + grid * mean over windows of 24x24 pixels of exp(-var(c) / 0.002) var(x averaged over cells)

where mean and std are those of each channel.  Where features are flat a decoder can only repeat
itself every eight pixels, and does so to get the style's deviations.  Absolute differences of
neighbours are against such a grid, and so is the last term, which averages the 3x3 cells of 8x8
pixels of a window where the photograph is flat.  The encoder pads by reflection and its pools round
up, as AdaIN's own does and as 4SE, from which it comes.  In each batch one photograph is its own
style, so that the decoder also returns photographs, which depth-aware AdaIN keeps in part.

Needs PyTorch, which the package itself never imports:

    python bench/train_decoder.py --data ../shared/data

writes depthstyle/weights/decoder.safetensors and bench/results/decoder.md.  A run that was
interrupted goes on from its checkpoint, `--checkpoint`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import load_file, save_file
from train_encoder import (
    MEAN,
    NAMES,
    POOL_BEFORE,
    ROOT,
    STD,
    load_teacher,
    random_batch,
    read_encoder,
    read_picture,
    run_teacher,
)

KEYS = (1, 5, 8, 11, 14, 18, 21, 25, 28)
UPSAMPLE_AFTER = (1, 14, 21)
STYLE_LAYERS = ("1_1", "2_1", "3_1", "4_1")
EPSILON = 1e-5
CELL, WINDOW, FLAT = 8, 24, 2e-3


def encode(parameters, image):
    """Return the outputs of relu1_1, 2_1, 3_1 and 4_1 of the embedded encoder."""
    x, outputs = (image - MEAN) / STD, {}
    for name, (weight, bias) in zip(NAMES, parameters, strict=True):
        if name in POOL_BEFORE:
            x = F.max_pool2d(x, 2, ceil_mode=True)
        x = F.relu(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias))
        if name in STYLE_LAYERS:
            outputs[name] = x.float()
    return outputs


def decode(parameters, x):
    """Return the picture of some features, not clamped."""
    for key, (weight, bias) in zip(KEYS, parameters, strict=True):
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, bias)
        if key != KEYS[-1]:
            x = F.relu(x)
        if key in UPSAMPLE_AFTER:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
    return x.float()


def moments(features):
    variance, mean = torch.var_mean(features, (2, 3), keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def adain(content, style):
    mean, std = moments(content)
    style_mean, style_std = moments(style)
    return (content - mean) / std * style_std + style_mean


def relative(value, target):
    """Squared error of each picture over its target's mean square, averaged over the batch."""
    return ((value - target).square().mean((1, 2, 3)) / target.square().mean((1, 2, 3))).mean()


def total_variation(image):
    return image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()


def grid(image, content):
    """Return what repeats every eight pixels where the content is flat."""
    side = image.shape[2] // WINDOW * WINDOW
    batch, channels = image.shape[:2]
    split = (side // WINDOW, WINDOW // CELL, CELL)
    cells = image[..., :side, :side].reshape(batch, channels, *split, *split)
    repeated = cells.mean((3, 6)).var((3, 5), unbiased=False)
    flat = content[..., :side, :side].unflatten(2, (-1, WINDOW)).unflatten(4, (-1, WINDOW))
    return (torch.exp(-flat.var((3, 5)) / FLAT) * repeated).mean()


def losses(encoder, decoder, content, style):
    """Return the four terms of the loss, not weighted."""
    with torch.no_grad():
        style_features = encode(encoder, style)
        target = adain(encode(encoder, content)["4_1"], style_features["4_1"])
    picture = decode(decoder, target)
    features = encode(encoder, picture)
    of_style = 0
    for layer in STYLE_LAYERS:
        pairs = zip(moments(features[layer]), moments(style_features[layer]), strict=True)
        of_style = of_style + sum(relative(value, wanted) for value, wanted in pairs)
    return (
        relative(features["4_1"], target),
        of_style,
        total_variation(picture),
        grid(picture, content),
    )


def start_decoder(args, encoder, pictures):
    """Return 4SD, its first layer multiplied by the factor from our features to 4SE's."""
    teacher = load_teacher(args.data / "features/vgg19_16x_wct/4SE.pth")
    crops = random_batch(pictures, np.random.default_rng(args.seed), 32, args.side)
    with torch.no_grad():
        ours, theirs = encode(encoder, crops)["4_1"], run_teacher(teacher, crops)["4_1"]
    factor = (ours * theirs).sum() / ours.square().sum()
    path = args.data / "features/vgg19_16x_wct/4SD.pth"
    stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
    stems = ["conv" + name.replace("_", "") for name in reversed(NAMES)]
    pairs = [[stored[f"{stem}.weight"], stored[f"{stem}.bias"]] for stem in stems]
    pairs[0][0] = pairs[0][0] * factor
    return pairs


def read_style(path, side):
    """Read a painting, its short side reduced to twice the side of a crop."""
    with Image.open(path) as picture:
        picture = picture.convert("RGB")
        scale = min(1, 2 * side / min(picture.size))
        size = [max(round(length * scale), side) for length in picture.size]
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def style_batch(paintings, rng, batch, side):
    """Cut crops of paintings between their whole short side and a crop's own side."""
    crops = []
    for _ in range(batch):
        painting = paintings[rng.integers(len(paintings))]
        wide = int(rng.integers(side, min(painting.shape[2:]) + 1))
        crop = random_batch([painting], rng, 1, wide)
        crops.append(F.interpolate(crop, (side, side), mode="bilinear", antialias=True))
    return torch.cat(crops)


def train(encoder, decoder, photos, paintings, args):
    tensors = [tensor.requires_grad_() for pair in decoder for tensor in pair]
    adam = torch.optim.Adam(tensors, lr=args.rate)
    first = 0
    if args.checkpoint.exists():
        state = torch.load(args.checkpoint, weights_only=True)
        for tensor, stored in zip(tensors, state["tensors"], strict=True):
            tensor.data.copy_(stored)
        adam.load_state_dict(state["adam"])
        first = state["step"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam,
        args.rate,
        args.iterations,
        pct_start=0.05,
        cycle_momentum=False,
        last_epoch=first - 1,
    )
    start = time.monotonic()
    for step in range(first, args.iterations):
        rng = np.random.default_rng((args.seed, step))
        content = random_batch(photos, rng, args.batch, args.side)
        style = style_batch(paintings, rng, args.batch - 1, args.side)
        style = torch.cat([content[:1], style])
        with torch.autocast("cpu", torch.bfloat16):
            terms = losses(encoder, decoder, content, style)
        loss = sum(w * t for w, t in zip(args.term_weights, terms, strict=True))
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == args.iterations:
            seconds = time.monotonic() - start
            left = seconds / (step + 1 - first) * (args.iterations - step - 1)
            print(
                f"step {step + 1:5d}  {'  '.join(f'{term.item():.5f}' for term in terms)}  "
                f"{left:.0f} s left",
                flush=True,
            )
            state = {"tensors": [tensor.detach() for tensor in tensors], "step": step + 1}
            torch.save({**state, "adam": adam.state_dict()}, args.checkpoint)
    for tensor in tensors:
        tensor.requires_grad_(False)


@torch.no_grad()
def evaluate(encoder, decoder, photos, paintings, args):
    """Return the means of the four terms over photographs that were left out of training."""
    rng = np.random.default_rng(args.seed)
    totals = np.zeros(4)
    for photo in photos:
        content = random_batch([photo], rng, 1, args.side)
        style = style_batch(paintings, rng, 1, args.side)
        totals += [term.item() for term in losses(encoder, decoder, content, style)]
    return totals / len(photos)


def write_report(path, before, after, args, size):
    lines = [
        "# Embedded decoder",
        "",
        f"`python bench/train_decoder.py --iterations {args.iterations} --batch {args.batch} "
        f"--side {args.side} --style {args.style:g} --tv {args.tv:g} --grid {args.grid:g} "
        f"--rate {args.rate:g} "
        f"--seed {args.seed}`, PyTorch {torch.__version__.split('+')[0]}, {size:,} bytes.",
        "",
        "The terms of the loss, not weighted, on photographs left out of training, each with a "
        "painting. `start`: the distilled decoder 4SD, which was trained to return photographs.",
        "",
        "| term | start | trained |",
        "| --- | --- | --- |",
    ]
    names = ("content", "mean and std, four layers", "total variation", "grid")
    rows = zip(names, before, after, strict=True)
    lines += [f"| {name} | {first:.2g} | {last:.2g} |" for name, first, last in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def save_decoder(path, decoder):
    stored = {
        f"{key}.{kind}": tensor.half().contiguous().numpy()
        for key, pair in zip(KEYS, decoder, strict=True)
        for kind, tensor in zip(("weight", "bias"), pair, strict=True)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "architecture": "adain-decoder",
        "licence": "MIT",
        "origin": "bench/train_decoder.py, from 4SD of Wang et al. 2020 (MIT)",
    }
    save_file(stored, path, metadata=metadata)


def read_decoder(path):
    stored = {key: torch.from_numpy(value).float() for key, value in load_file(path).items()}
    return [[stored[f"{key}.weight"], stored[f"{key}.bias"]] for key in KEYS]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--weights", type=Path, default=ROOT / "depthstyle/weights")
    parser.add_argument("--report", type=Path, default=ROOT / "bench/results/decoder.md")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "build/decoder.pt")
    parser.add_argument("--iterations", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--style", type=float, default=1.0)
    parser.add_argument("--tv", type=float, default=1.0)
    parser.add_argument("--grid", type=float, default=1000.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.term_weights = (1, args.style, args.tv, args.grid)
    return args


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.checkpoint.parent.mkdir(parents=True, exist_ok=True)

    files = sorted((args.data / "train_photos").glob("*.jpg"))
    photos = [read_picture(path) for path in files]
    photos = [photo for photo in photos if min(photo.shape[2:]) >= args.side]
    held_out, photos = photos[::60], [photo for i, photo in enumerate(photos) if i % 60]
    files = sorted((args.data / "paintings").glob("*.jpg"))
    paintings = [read_style(path, args.side) for path in files]

    encoder = read_encoder(args.weights / "encoder.safetensors")
    decoder = start_decoder(args, encoder, held_out)
    before = evaluate(encoder, decoder, held_out, paintings, args)
    train(encoder, decoder, photos, paintings, args)
    output = args.weights / "decoder.safetensors"
    save_decoder(output, decoder)
    after = evaluate(encoder, read_decoder(output), held_out, paintings, args)
    write_report(args.report, before, after, args, output.stat().st_size)


if __name__ == "__main__":
    main()
