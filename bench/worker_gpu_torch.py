"""Worker: the parts of bench_gpu.py in PyTorch. Arguments: setting, device.

Settings: "eager" as PyTorch comes; "bf16", eager in bf16 and channels_last with cudnn.benchmark,
and that in three more forms: "compiled", "autotuned" (max-autotune, which uses CUDA graphs) and
"captured" by hand as one CUDA graph. "reference" is fp32 without TF32, against which all are
checked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import gpu_problem as problem
import numpy as np
import torch
import torch.nn.functional as F
from gpu_problem import CHECKED, CONTENT, STYLES, Part
from gpu_table import COPY, PRODUCT
from gpu_worker import serve

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "golden"))

from torch_networks import adain, depth, johnson

SETTING, DEVICE = sys.argv[1], torch.device(sys.argv[2])
ON_GPU = DEVICE.type == "cuda"
HALF = SETTING not in ("reference", "eager")
DTYPE = torch.bfloat16 if HALF else torch.float32
LAYOUT = torch.channels_last if HALF else torch.contiguous_format
MEAN, STD = (torch.tensor(values, device=DEVICE).view(1, 3, 1, 1) for values in (
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
))  # fmt: skip
WARM = 3

if HALF:
    torch.backends.cudnn.benchmark = True
if SETTING == "reference":
    torch.backends.cudnn.allow_tf32 = False


def wait() -> None:
    """Wait for the device."""
    if ON_GPU:
        torch.cuda.synchronize()


def to_device(array: np.ndarray, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    """Return an array on the device, four-dimensional ones in the layout of the setting."""
    tensor = torch.from_numpy(array).to(DEVICE, dtype)
    return tensor.contiguous(memory_format=LAYOUT) if tensor.ndim == 4 else tensor


def to_input(image: np.ndarray) -> torch.Tensor:
    """Return a picture (H, W, 3) as VGG19 takes it, in fp32 and planar: L-BFGS takes no other."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None])).to(DEVICE)
    return (planes - MEAN) / STD


def with_weights(module: torch.nn.Module, arrays: dict[str, np.ndarray]) -> torch.nn.Module:
    """Return a module with its weights, ready on the device."""
    state = {key: torch.from_numpy(array) for key, array in arrays.items()}
    missing = module.load_state_dict(state, strict=False)
    left = [key for key in missing.missing_keys if not key.endswith("num_batches_tracked")]
    if left or missing.unexpected_keys:
        raise ValueError(f"weights: {left} missing, {missing.unexpected_keys} unexpected")
    module = module.eval().requires_grad_(False)
    return module.to(DEVICE, DTYPE, memory_format=LAYOUT)


def compiled(function: Callable) -> Callable:
    """Return a function as the setting runs it."""
    if SETTING == "compiled":
        return torch.compile(function)
    if SETTING == "autotuned":
        return torch.compile(function, mode="max-autotune")
    return function


def captured(work: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a CUDA graph of some work, for the setting that captures."""
    if SETTING != "captured":
        return work
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


class Memory:
    """What PyTorch keeps from the device for a part."""

    def __init__(self) -> None:
        if SETTING in ("compiled", "autotuned"):
            torch._dynamo.reset()

    def settle(self) -> None:
        """Forget what preparation took."""
        if ON_GPU:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    @property
    def bytes(self) -> int:
        """The most that was allocated, or kept for graphs."""
        if not ON_GPU:
            return 0
        kept_for_graphs = SETTING in ("autotuned", "captured")
        return (
            torch.cuda.memory_reserved if kept_for_graphs else torch.cuda.max_memory_allocated
        )()


class Network(Memory):
    """A network on one input."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        makers = {"adain": Adain, "johnson": make_johnson, "midas-small": make_midas}
        module = makers[part.kind]()
        self.x = to_device(problem.network_input(part), torch.float32)
        run = compiled(lambda x: module(x.to(DTYPE)).float())
        with torch.inference_mode():
            self.work = captured(lambda: run(self.x))

    def check(self) -> np.ndarray:
        """Return the output."""
        self.settle()
        with torch.inference_mode():
            return self.work().cpu().numpy()

    def run(self, count: int) -> None:
        """Do some runs."""
        with torch.inference_mode():
            for _ in range(count):
                mark_step()
                self.work()
        wait()


def mark_step() -> None:
    """Say that what a compiled graph returned before may be overwritten."""
    if SETTING == "autotuned":
        torch.compiler.cudagraph_mark_step_begin()


class Adain(torch.nn.Module):
    """Encoder, AdaIN with the cached moments of a style, decoder."""

    def __init__(self) -> None:
        super().__init__()
        encoder, decoder = problem.adain_weights()
        self.encoder = with_weights(adain.encoder(), encoder)
        self.decoder = with_weights(adain.decoder(), decoder)
        moments = to_device(problem.style_moments())
        self.register_buffer("mean", moments[..., :1].contiguous())
        self.register_buffer("std", moments[..., 1:].contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the picture."""
        features = self.encoder(x)
        variance, mean = torch.var_mean(features, (2, 3), keepdim=True, unbiased=True)
        normal = (features - mean) / (variance + problem.EPSILON).sqrt()
        return self.decoder(normal * self.std + self.mean)


def make_johnson() -> torch.nn.Module:
    """Return the transformation network."""
    return with_weights(johnson.PytorchExamples(), problem.weights("johnson"))


def make_midas() -> torch.nn.Module:
    """Return MiDaS small."""
    return with_weights(depth.build("midas-small"), problem.weights("midas-small"))


class Objective(torch.nn.Module):
    """The loss of a picture. A module: compiled graphs keep its arrays in place."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.side = part.depth_side
        self.blocks = make_vgg()
        self.midas = make_midas() if part.depth else None
        with torch.no_grad():
            photograph = to_input(problem.content(part))
            self.register_buffer("content", self.features(photograph)[CONTENT].clone())
            found = self.features(to_input(problem.style(part)))
            for name in STYLES:
                self.register_buffer(name, gram(found[name]))
            if part.depth:
                self.register_buffer("seen", self.see(photograph))

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps of VGG19 up to the last that is compared."""
        maps, x = {}, x.to(DTYPE, memory_format=LAYOUT)
        for number, block in enumerate(self.blocks, start=1):
            x = x if number == 1 else F.max_pool2d(x, 2)
            for k, conv in enumerate(block, start=1):
                x = maps[f"relu{number}_{k}"] = F.relu(conv(x))
        return maps

    def see(self, x: torch.Tensor) -> torch.Tensor:
        """Return what MiDaS small makes of a picture; its module wants what VGG19 wants."""
        rgb = x * STD + MEAN
        rgb = F.interpolate(rgb, (self.side, self.side), mode="bicubic", align_corners=False)
        return self.midas(((rgb - MEAN) / STD).to(DTYPE, memory_format=LAYOUT)).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        maps = self.features(x)
        value = problem.CONTENT_WEIGHT * mean_square(maps[CONTENT], self.content)
        for name in STYLES:
            value = value + mean_square(gram(maps[name]), getattr(self, name))
        if self.midas is not None:
            value = value + problem.DEPTH_WEIGHT * mean_square(self.see(x), self.seen)
        return value


def make_vgg() -> torch.nn.ModuleList:
    """Return the convolutions of VGG19 by block, up to the last that is compared."""
    arrays, blocks, index, inputs = problem.weights("vgg19"), [], 0, 3
    counts = (*problem.seeded.VGG_BLOCKS["vgg19"][:4], 1)
    for count, width in zip(counts, problem.seeded.VGG_WIDTHS, strict=True):
        convolutions = []
        for _ in range(count):
            conv = torch.nn.Conv2d(inputs, width, 3, padding=1)
            named = {name: arrays[f"features.{index}.{name}"] for name in ("weight", "bias")}
            convolutions.append(with_weights(conv, named))
            index, inputs = index + 2, width
        blocks.append(torch.nn.ModuleList(convolutions))
        index += 1
    return torch.nn.ModuleList(blocks)


class Gatys(Memory):
    """The iterations of an optimisation."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part
        self.low = to_input(np.zeros((1, 1, 3), np.float32))
        self.high = to_input(np.ones((1, 1, 3), np.float32))
        self.start = to_input(problem.start(part))
        self.image = self.start.clone().requires_grad_(True)
        self.loss = compiled(Objective(part))
        self.begin()
        if part.optimizer == "lbfgs":
            self.evaluate = captured(self.evaluate)
        else:
            self.step = captured(self.step)

    def begin(self) -> None:
        """Make the optimiser."""
        if self.part.optimizer == "lbfgs":
            self.optimiser = torch.optim.LBFGS(
                [self.image],
                max_iter=1,
                tolerance_grad=0,
                tolerance_change=0,
                history_size=problem.HISTORY,
            )
        else:
            fast = {"fused": True, "capturable": True} if HALF and ON_GPU else {}
            self.optimiser = torch.optim.Adam([self.image], lr=problem.RATE, **fast)

    def evaluate(self) -> torch.Tensor:
        """Return the loss and set the gradient."""
        self.image.grad = None
        loss = self.loss(self.image)
        loss.backward()
        return loss.detach()

    def step(self) -> torch.Tensor:
        """Do one iteration."""
        if self.part.optimizer == "lbfgs":
            return self.optimiser.step(self.evaluate)
        loss = self.evaluate()
        self.optimiser.step()
        with torch.no_grad():
            self.image.clamp_(self.low, self.high)
        return loss

    def check(self) -> np.ndarray:
        """Return the losses of the first iterations from the start."""
        self.settle()
        with torch.no_grad():
            self.image.copy_(self.start)
        if self.part.optimizer == "lbfgs":
            self.begin()
        else:  # in place: a captured graph has their addresses
            for value in self.optimiser.state[self.image].values():
                value.zero_()
        losses = []
        for _ in range(CHECKED):
            mark_step()
            losses.append(float(self.step()))
        return np.array(losses)

    def run(self, count: int) -> None:
        """Do some iterations."""
        for _ in range(count):
            mark_step()
            self.step()
        wait()


def gram(x: torch.Tensor) -> torch.Tensor:
    """Return the Gram matrix over the number of pixels, in fp32."""
    rows = x.flatten(2)
    return (rows @ rows.transpose(1, 2)).float() / rows.shape[2]


def mean_square(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean of squared differences, in fp32."""
    return F.mse_loss(x.float(), target.float())


def ceilings() -> dict[str, float]:
    """Return what the device does at best; random values, since zeros cost less power."""

    def seconds(work: Callable[[], object], runs: int) -> float:
        work()
        wait()
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            for _ in range(runs):
                work()
            wait()
            times.append((time.perf_counter() - begin) / runs)
        return sorted(times)[len(times) // 2]

    found = {}
    large = torch.rand(2**30, device=DEVICE)
    other = torch.empty_like(large)
    copy = seconds(lambda: other.copy_(large), 10)
    found[COPY] = 2 * large.nbytes / copy / 1e12
    host = torch.rand(2**26).pin_memory()
    part = large[: 2**26]
    found["to the device GB/s"] = host.nbytes / seconds(lambda: part.copy_(host), 2) / 1e9
    found["from the device GB/s"] = host.nbytes / seconds(lambda: host.copy_(part), 2) / 1e9
    torch.backends.cuda.matmul.allow_tf32 = True
    for name, dtype in ((PRODUCT, torch.bfloat16), (f"TF32{PRODUCT[4:]}", torch.float32)):
        a, b = (torch.randn(8192, 8192, device=DEVICE).to(dtype) for _ in range(2))
        found[name] = 2 * 8192**3 / seconds(lambda a=a, b=b: a @ b, 10) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    one, graph = torch.zeros(1, device=DEVICE), torch.cuda.CUDAGraph()
    one.add_(1)
    wait()
    with torch.cuda.graph(graph):
        for _ in range(100):
            one.add_(1)
    found["graph of 100 tiny dependent kernels, us each"] = seconds(graph.replay, 20) * 1e4
    return found


def describe(request: dict) -> dict[str, object]:
    """Return versions, and the ceilings of the device."""
    answer: dict[str, object] = {"torch": torch.__version__}
    if ON_GPU:
        cudnn = torch.backends.cudnn.version()
        answer |= {"CUDA of torch": torch.version.cuda, "cuDNN of torch": cudnn}
        answer["ceilings"] = ceilings()
    return answer


if __name__ == "__main__":
    serve(lambda part: (Gatys if part.kind == "gatys" else Network)(part), {"describe": describe})
