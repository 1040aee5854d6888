"""Small pictures to compare: content images, mild pastiches (ours) and wild ones (baseline)."""

import csv

import numpy as np
from PIL import Image

HEADER = ["image", "style", "content", "ours", "baseline"]


def scene(seed, height=48, width=64):
    """A picture of soft blobs, uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for _ in range(12):
        cy, cx, size = random.uniform(0, height), random.uniform(0, width), random.uniform(4, 16)
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
        image += blob[..., None] * random.uniform(-120, 120, 3)
    return np.clip(128 + image, 0, 255).astype(np.uint8)


def noisy(image, amount, seed):
    noise = np.random.default_rng(seed).normal(0, amount, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_csv(path, rows, header=HEADER):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_comparison(folder, images=3, styles=("ink", "oil"), size=(48, 64)):
    """Write pictures and a pairs.csv; give the csv's path."""
    rows = []
    for i in range(images):
        content = scene(i, *size)
        Image.fromarray(content).save(folder / f"scene{i}.png")
        for j, style in enumerate(styles):
            files = [f"scene{i}_{style}_{column}.png" for column in ("ours", "baseline")]
            for file, amount in zip(files, (15, 45), strict=True):
                Image.fromarray(noisy(content, amount, 10 * i + j)).save(folder / file)
            rows.append([f"scene{i}", style, f"scene{i}.png", *files])
    return write_csv(folder / "pairs.csv", rows)
