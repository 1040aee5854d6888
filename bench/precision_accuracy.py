"""What bf16 and mixed precision do to pictures: losses, networks' outputs, gradients.

`python bench/precision_accuracy.py` measures on photographs and paintings of `../shared/data` and
writes `bench/results/precision.md` and a contact sheet beside it; parts that are not named stay in
the table as they were. The gradients need PyTorch (`pip install torch==2.13.0`, a CPU build). The
numbers hold for any processor up to chance: what bf16 means does not depend on it, the order of
sums does.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image
from side_by_side import HERE, machine
from tqdm import tqdm

import depthstyle as ds
from depthstyle import _core, networks, weights
from depthstyle.images import scaled_size
from depthstyle.methods import make_painter

RESULTS = HERE / "results"
PAIRS = (
    ("tubingen", "starry_night"),
    ("golden_gate2", "the_scream"),
    ("venice_boat", "monet_san_giorgio"),
    ("taj_mahal", "composition_vii"),
    ("neko_cat", "la_muse"),
    ("portrait_girl", "picasso_self_1907"),
    ("kinkakuji", "great_wave"),
    ("newyork", "udnie"),
    ("sailboat", "turner_the_shipwreck"),
    ("flowers", "gogh_irises"),
)
"""Photograph and painting."""

VGG19 = "features/vgg19_normalised/vgg_normalised_conv3_1.pth"
JOHNSON = "johnson_weights"
LIMITS = {"bf16": 0.01, "mixed": 0.003}
"""By how much the final loss may differ from that of fp32, relative to it."""
SHEET_PAIRS = 4
MOVED = 1e-5
CONTROL = f"fp32, start moved by {MOVED:g}"
PARTS = ("encoder-adam", "vgg19-adam", "encoder-lbfgs", "vgg19-lbfgs", "outputs", "gradients")

Picture = np.ndarray


class Pictures:
    """The photographs and paintings at a size, in steps of 8 bits as if they were files."""

    def __init__(self, data: Path, longest: int, count: int) -> None:
        self._data, self.longest = data, longest
        self.pairs = PAIRS[:count]

    def __iter__(self) -> Iterator[tuple[str, Picture, Picture]]:
        for label, content, style in self.resized():
            yield label, in_8_bits(content), in_8_bits(style)

    def resized(self) -> Iterator[tuple[str, Picture, Picture]]:
        """Yield the same as they were before they were rounded."""
        for photo, painting in self.pairs:
            content = self._read(f"photos/{photo}.jpg")
            yield f"{photo}, {painting}", content, self._read(f"paintings/{painting}.jpg")

    def _read(self, name: str) -> Picture:
        picture = ds.read_image(self._data / name)
        return ds.resize(picture, scaled_size(*picture.shape[:2], longest=self.longest))


def in_8_bits(picture: Picture) -> Picture:
    """Return a picture in steps of 1/255."""
    return np.rint(255 * picture) / np.float32(255)


def perceptions(data: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return name and settings of each network whose features a session compares."""
    layers = ("relu1_1", "relu2_1", "relu3_1")
    deep = {
        "weights": str(data / VGG19),
        "content_layers": layers[-1:],
        "style_layers": layers,
        "schedule": ((0, 0.01),),  # its input is RGB in [0, 1], a fifth of the encoder's range
    }
    return {
        "encoder": ("embedded encoder", {"weights": str(weights.EMBEDDED)}),
        "vgg19": ("VGG19 to relu3_1", deep),
    }


# Losses after an optimisation ---------------------------------------------------------------------


def final_loss(content: Picture, style: Picture, result: Picture, settings: dict) -> float:
    """Return the loss of a result as fp32 computes it."""
    options = {**settings, "optimizer": "adam", "precision": "fp32", "start": result}
    session = ds.Session(content, style, scales=1, device="cpu", **options)
    session.step()
    return session.losses["total"][0]


def optimise(
    pictures: Pictures,
    name: str,
    settings: dict,
    optimizer: str,
    steps: int,
    starts: int,
    threads: int,
) -> tuple[list[dict], dict[str, Picture]]:
    """Return the row of each precision and of the control, and pictures for the sheet.

    Losses are means over `starts` runs: from the photograph, and from it with unlike noise.
    """
    found: dict[str, list[float]] = {"fp32": [], "bf16": [], "mixed": [], CONTROL: []}
    shown: dict[str, Picture] = {}
    bar = tqdm(total=len(found) * len(pictures.pairs), desc=f"{name}, {optimizer}")
    for label, content, style in pictures:
        for precision, losses in found.items():
            options = {**settings, "optimizer": optimizer, "threads": threads}
            options["precision"] = "fp32" if precision == CONTROL else precision
            noisy = [moved(content, seed) for seed in range(2 * starts)]
            begins = noisy[:starts] if precision == CONTROL else [content, *noisy[starts + 1 :]]
            ends = []
            for begin in begins:
                options["start"] = begin
                session = ds.Session(content, style, scales=1, device="cpu", **options)
                ends.append(session.step(steps))
            losses.append(mean(final_loss(content, style, end, settings) for end in ends))
            if precision in ("fp32", "bf16"):
                shown[f"{label}, {precision}"] = ends[0]
            bar.update()
    bar.close()
    exact = found.pop("fp32")
    what = f"{name}, {steps} steps of {optimizer}, {pictures.longest} pixels"
    if starts > 1:
        what += f", {starts} starts each"
    rows = [
        {"what": what, "precision": precision, "fp32": exact, "losses": losses}
        for precision, losses in found.items()
    ]
    return rows, shown


def moved(picture: Picture, seed: int) -> Picture:
    """Return a picture with noise that no screen shows."""
    noise = np.random.default_rng(seed).normal(0, MOVED, picture.shape)
    return np.clip(picture + noise, 0, 1, dtype=np.float32)


def sheet(pictures: Pictures, shown: Mapping[str, Picture]) -> Picture:
    """Return rows of photograph, painting, fp32 and bf16."""
    cells: dict[str, Picture] = {}
    for label, content, style in itertools.islice(pictures, SHEET_PAIRS):
        photo, painting = label.split(", ")
        cells |= {photo: content, painting: style}
        cells |= {f"{photo} {how}": shown[f"{label}, {how}"] for how in ("fp32", "bf16")}
    return ds.contact_sheet(list(cells.values()), list(cells), columns=4, cell_width=256)


# Outputs of networks in one run -------------------------------------------------------------------


def painters(data: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return method and settings of each network that paints in one run."""
    files = [*(data / JOHNSON / "ncnn_fp16").glob("*.bin")]
    files += [file.parent for file in (data / JOHNSON).glob("deeplearnjs/*/manifest.json")]
    found: dict[str, tuple[str, dict[str, Any]]] = {"AdaIN, embedded": ("adain", {})}
    for file in sorted(files):
        found[f"Johnson {file.parent.name}/{file.name}"] = ("fast", {"weights": str(file)})
    return found


def outputs(pictures: Pictures, data: Path, threads: int) -> list[dict]:
    """Compare the outputs in bf16 with those in fp32, of photographs as resized and in 8 bits."""
    rows = []
    for name, (method, settings) in tqdm(painters(data).items(), desc="networks"):
        what = f"{name}, {pictures.longest} pixels"
        resized, stepped = (
            {"what": what, "photograph": photograph} for photograph in ("resized", "8 bits")
        )
        for _, content, style in pictures.resized():
            exact, rounded = (
                make_painter(
                    method,
                    [style] if method == "adain" else [],
                    precision=precision,
                    threads=threads,
                    device="cpu",
                    **settings,
                )
                for precision in ("fp32", "bf16")
            )
            wanted = []
            for row, photograph in ((resized, content), (stepped, in_8_bits(content))):
                wanted.append(exact.paint(photograph).image)
                compare(row, rounded.paint(photograph).image, wanted[-1])
            for row in (resized, stepped):
                row.setdefault("psnr_of_8_bits", []).append(psnr(wanted[1] - wanted[0]))
        rows += [resized, stepped]
    return rows


def compare(row: dict[str, Any], found: Picture, wanted: Picture) -> None:
    """Add to a row how far a picture is from another, in steps of 8 bits."""
    apart = np.abs(found - wanted)
    for key, value in {
        "psnr": psnr(apart),
        "largest": 255 * float(apart.max()),
        "beyond_4": float(np.mean(255 * apart > 4)),
    }.items():
        row.setdefault(key, []).append(value)


def psnr(difference: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of a difference of pictures in [0, 1]."""
    return -10 * float(np.log10(np.mean(np.square(difference, dtype=np.float64))))


# Gradients ----------------------------------------------------------------------------------------

Run = Callable[[Sequence[Any]], list[np.ndarray]]


class Losses:
    """Style and content losses, each divided by the size of its target, of a network."""

    def __init__(self, file: str, styles: Sequence[str], content: str) -> None:
        arrays = weights.load(file)
        self.network = networks.identify(arrays)
        self.weights = self.network.prepare(arrays)
        self.styles, self.content = styles, content
        self.layers = list(dict.fromkeys([*styles, content]))

    def gradient(self, image: Picture, content: Picture, style: Picture, **how: Any) -> np.ndarray:
        """Return the gradient (1, 3, H, W) that a plan computes; `how` is for compile."""
        targets = [self._seen(content, **how)[0], *self._seen(style, **how)[1]]
        graph = _core.Graph()
        x = graph.variable("image", self.network.to_input(image), kind="map")
        maps, grams = self._add(graph, x)
        total = None
        for node, target in zip([maps[self.content], *grams], targets, strict=True):
            kind = "map" if node is maps[self.content] else "plain"
            scale = (0.02 if kind == "map" else 1) / float(np.sum(np.square(target, dtype=float)))
            loss = graph.feature_loss(node, graph.constant(target, kind=kind), scale=scale)
            total = loss if total is None else graph.add(total, loss)
        return graph.compile(graph.gradient(total, [x]), **how).run({})[0]

    def _add(self, graph: Any, x: Any) -> tuple[dict[str, Any], list[Any]]:
        maps = self.network.features(graph, x, self.weights, self.layers)
        scales = {layer: 1 / float(np.prod(maps[layer].shape[2:])) for layer in self.styles}
        return maps, [graph.gram(maps[layer], scale=scale) for layer, scale in scales.items()]

    def _seen(self, picture: Picture, **how: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        graph = _core.Graph()
        x = graph.variable("image", self.network.to_input(picture), kind="map")
        maps, grams = self._add(graph, x)
        content, *grams = graph.compile([maps[self.content], *grams], **how).run({})
        return content, grams

    def torch_gradient(
        self, image: Picture, content: Picture, style: Picture, dtype: str, autocast: bool
    ) -> np.ndarray:
        """Return the same gradient by PyTorch."""
        import torch

        arrays = {
            key: torch.from_numpy(np.array(array)).to(getattr(torch, dtype))
            for key, array in self.weights.items()
        }

        def see(picture: Picture, learn: bool = False) -> tuple[Any, Any, list[Any]]:
            planes = torch.from_numpy(self.network.to_input(picture)).to(getattr(torch, dtype))
            planes.requires_grad_(learn)
            maps = self._torch_maps(planes, arrays)
            flat = [maps[layer].flatten(2) for layer in self.styles]
            grams = [f @ f.transpose(1, 2) / f.shape[2] for f in flat]
            return planes, maps[self.content], grams

        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            with torch.no_grad():
                targets = [see(content)[1], *see(style)[2]]
            x, map_, grams = see(image, learn=True)
            total = 0.0
            for factor, seen, target in zip(
                itertools.chain([0.02], itertools.repeat(1.0)),
                [map_, *grams],
                targets,
                strict=False,
            ):
                size = target.double().square().mean().to(target.dtype)
                total = total + factor * torch.nn.functional.mse_loss(seen, target) / size
        total.backward()
        return x.grad.double().numpy()

    def _torch_maps(self, x: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        keys = {layer: key for key, layer in self.network.aliases.items()}
        reflects = self.network.name == "adain-encoder"
        maps: dict[str, Any] = {}
        for layer in self.network.layers:
            if layer.startswith("relu"):
                x = torch.relu(x)
            elif layer.startswith("pool"):
                x = torch.nn.functional.max_pool2d(x, 2, ceil_mode=reflects)
            else:
                kernel, bias = (arrays[f"{keys[layer]}.{kind}"] for kind in ("weight", "bias"))
                border = [kernel.shape[2] // 2] * 4
                x = torch.nn.functional.pad(x, border, "reflect" if reflects else "constant")
                x = torch.nn.functional.conv2d(x, kernel, bias)
            maps[layer] = x
            if all(wanted in maps for wanted in self.layers):
                break
        return maps


def gradients(pictures: Pictures, data: Path, threads: int) -> list[dict]:
    """Compare the gradient of a picture half-way through a run with that of float64."""
    import torch

    torch.set_num_threads(threads)
    rows = []
    for name, settings in perceptions(data).values():
        session = ds.Session(np.zeros((64, 64, 3)), np.zeros((64, 64, 3)), **settings)
        contents, styles = session._layers
        losses = Losses(settings["weights"], list(styles), next(iter(contents)))
        distances: dict[str, list[float]] = {}
        for _, content, style in tqdm(list(pictures), desc=f"gradients, {name}"):
            options = {**settings, "optimizer": "adam", "precision": "fp32"}
            image = ds.Session(content, style, scales=1, device="cpu", **options).step(30)
            given = image, content, style
            exact = losses.gradient(*given, backend="ref", dtype="float64")
            peer = losses.torch_gradient(*given, "float64", autocast=False)
            if distance(peer, exact) > 1e-6:
                raise RuntimeError("PyTorch computes another function in float64")
            for precision in ("fp32", "mixed", "bf16"):
                found = losses.gradient(*given, precision=precision, threads=threads)
                distances.setdefault(precision, []).append(distance(found, exact))
            for label, autocast in (("PyTorch fp32", False), ("PyTorch autocast", True)):
                found = losses.torch_gradient(*given, "float32", autocast)
                distances.setdefault(label, []).append(distance(found, exact))
        rows.append({"what": name, **distances})
    return rows


def distance(found: np.ndarray, exact: np.ndarray) -> float:
    """Return how far an array is from the exact one, in relative L2."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


# Report -------------------------------------------------------------------------------------------


def loss_table(rows: Sequence[dict]) -> list[str]:
    """Return the lines of the table of losses."""
    lines = [
        "| run | precision | mean difference of the final loss | least to most | asked | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        apart = np.array(row["losses"]) / np.array(row["fp32"]) - 1
        limit = LIMITS.get(row["precision"]) if "adam" in row["what"] else None
        asked = "" if limit is None else f"within {limit:.1%}"
        met = "" if limit is None else _yes(abs(apart.mean()) <= limit)
        lines.append(
            f"| {row['what']} | {row['precision']} | {apart.mean():+.2%} "
            f"| {apart.min():+.2%} to {apart.max():+.2%} | {asked} | {met} |"
        )
    return lines


def output_table(rows: Sequence[dict]) -> list[str]:
    """Return the lines of the table of outputs."""
    lines = [
        "| network | photograph | PSNR, least (mean) | largest difference of 255, at most (median) "
        "| values off by over 4, mean | met: PSNR, difference | 8-bit photograph, least (mean) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratios, largest, eight = row["psnr"], row["largest"], row["psnr_of_8_bits"]
        met = f"{_yes(min(ratios) >= 45)}, {_yes(max(largest) <= 4)}"
        lines.append(
            f"| {row['what']} | {row['photograph']} | {min(ratios):.1f} ({np.mean(ratios):.1f}) dB "
            f"| {max(largest):.1f} ({np.median(largest):.1f}) | {np.mean(row['beyond_4']):.3%} "
            f"| {met} | {min(eight):.1f} ({np.mean(eight):.1f}) dB |"
        )
    return lines


def gradient_table(rows: Sequence[dict]) -> list[str]:
    """Return the lines of the table of gradients."""
    names = ["fp32", "mixed", "bf16", "PyTorch fp32", "PyTorch autocast"]
    lines = [f"| network | {' | '.join(names)} | bf16 / autocast | met |"]
    lines.append("| --- " * (len(names) + 3) + "|")
    for row in rows:
        means = {name: float(np.mean(row[name])) for name in names}
        ratio = means["bf16"] / means["PyTorch autocast"]
        cells = " | ".join(f"{mean:.1e}" for mean in means.values())
        lines.append(f"| {row['what']} | {cells} | {ratio:.2f} | {_yes(ratio <= 1.1)} |")
    return lines


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


TEXT = """\
Machine: {machine}, CPU level {level}.

{commands}

Losses are those of the last picture as fp32 computes them, relative to the run in fp32, over pairs
of a photograph and a painting, from the photograph. The limits were set for the mean over ten
pairs with Adam. The control is fp32 from a start with noise of a hundred-thousandth: what lies
within its range is chance. Where a row names several starts, a loss is the mean over runs from the
photograph and from starts with unlike noise, which L-BFGS multiplies.

{losses}

Outputs of networks in one run, bf16 beside fp32, on the same photographs, as they are once they are
resized, which is how `stylize` paints them, and rounded to 8 bits like a file of that size; asked
are a PSNR of 45 dB and no difference above 4 of 255. The last column is a yardstick: the PSNR of
fp32 on the one beside fp32 on the other.

{outputs}

Gradient of the losses with respect to a picture after 30 steps: distance to float64 in relative L2,
mean over the pictures. Asked is at most 1.1 times the distance of PyTorch's autocast.

{gradients}

The pictures: `precision.jpg`, fp32 beside bf16 after Adam with the embedded encoder.

As JSON:

{raw}
"""


def measure(part: str, args: argparse.Namespace) -> list[dict]:
    """Return the rows of a part; that of the embedded encoder and Adam also writes the sheet."""
    pictures = Pictures(args.data, args.size, args.pairs)
    if part == "gradients":
        return gradients(pictures, args.data, args.threads)
    if part == "outputs":
        return outputs(pictures, args.data, args.threads)
    network, optimizer = part.split("-")
    name, settings = perceptions(args.data)[network]
    run = args.steps, args.starts, args.threads
    rows, shown = optimise(pictures, name, settings, optimizer, *run)
    if part == "encoder-adam":
        page = Image.fromarray(np.rint(255 * sheet(pictures, shown)).astype(np.uint8))
        page.save(args.out / "precision.jpg", quality=85)
    return rows


def main() -> None:
    """Measure, write the table and the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--size", type=int, default=256, help="longer side of the pictures")
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--starts", type=int, default=1, help="runs that a loss is the mean of")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder to write")
    args = parser.parse_args()
    if wrong := set(args.parts) - set(PARTS):
        parser.error(f"{', '.join(wrong)}: choose from {', '.join(PARTS)}")
    for part in args.parts:
        command = f"{part} --size {args.size} --pairs {args.pairs} --steps {args.steps}"
        if args.starts > 1:
            command += f" --starts {args.starts}"
        rows = measure(part, args)
        path = args.out / "precision.md"
        found = {**read_parts(path), part: {"command": command, "rows": rows}}
        path.write_text(describe({part: found[part] for part in PARTS if part in found}))


def read_parts(path: Path) -> dict[str, Any]:
    """Return what a table holds already."""
    lines = path.read_text().splitlines() if path.exists() else []
    raw = (json.loads(line) for line in lines if line.startswith("    {"))
    return {part: found for entry in raw for part, found in entry.items()}


def describe(found: Mapping[str, Any]) -> str:
    """Return the text of the results."""
    rows = {part: entry["rows"] for part, entry in found.items()}
    losses = [row for part in PARTS if "-" in part for row in rows.get(part, [])]
    return TEXT.format(
        machine=machine(),
        level=_core.cpu_levels()[-1],
        commands="\n".join(
            f"    python bench/precision_accuracy.py {entry['command']}" for entry in found.values()
        ),
        losses="\n".join(loss_table(losses)),
        outputs="\n".join(output_table(rows.get("outputs", []))),
        gradients="\n".join(gradient_table(rows.get("gradients", []))),
        raw="\n".join(f"    {json.dumps({part: entry})}" for part, entry in found.items()),
    )


if __name__ == "__main__":
    main()
