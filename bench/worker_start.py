"""Worker: a process that reads a picture, runs the Johnson network on it and writes a PNG.

Arguments: engine, folder, threads; or, as such a process itself, engine, folder, threads, "once".
Its time and its peak memory above that of an interpreter count.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

engine, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
PHOTO, PAINTED = folder / "photo.png", folder / f"{engine}.png"


def run_once() -> None:
    """Paint with one of the peers."""
    import numpy as np
    from PIL import Image

    x = np.asarray(Image.open(PHOTO), np.float32).transpose(2, 0, 1)[None]
    x = np.ascontiguousarray(x)
    y = {"torch": run_torch, "onnxruntime": run_onnxruntime, "openvino": run_openvino}[engine](x)
    image = np.rint(y[0].transpose(1, 2, 0).clip(0, 255)).astype(np.uint8)
    Image.fromarray(image).save(PAINTED)


def run_torch(x):
    """PyTorch with the published file."""
    import torch
    from network_modules import johnson

    torch.set_num_threads(threads)
    module = johnson.PytorchExamples().eval()
    module.load_state_dict(torch.load(folder / "weights.pth"))
    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


def run_onnxruntime(x):
    """ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = str(folder / "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def run_openvino(x):
    """OpenVINO."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(folder / "model.onnx"), "CPU", settings)
    return model([x])[0]


def command() -> list[str]:
    """Return what is timed."""
    if engine != "depthstyle":
        return [sys.executable, __file__, engine, str(folder), str(threads), "once"]
    stylize = ["-m", "depthstyle", "stylize", str(PHOTO), "--method", "fast"]
    weights = ["--weights", str(folder / "weights.pth"), "--precision", "fp32"]
    weights += ["--threads", str(threads)]
    return [sys.executable, *stylize, *weights, "-o", str(PAINTED)]


def write_photo() -> None:
    """Write the input of the network as a picture."""
    import numpy as np
    from PIL import Image

    planes = np.load(folder / "input.npy")[0]
    Image.fromarray(np.rint(planes.transpose(1, 2, 0)).astype(np.uint8)).save(PHOTO)


def children_peak() -> int:
    """Return the largest resident size of a process that was waited for, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main() -> None:
    """Serve like the other workers, but time a process and report its own peak."""
    write_photo()
    subprocess.run([sys.executable, "-c", ""], check=True)
    before = children_peak()
    for _ in range(2):
        subprocess.run(command(), check=True, stdout=subprocess.DEVNULL)
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        subprocess.run(command(), check=True, stdout=subprocess.DEVNULL)
        print(time.perf_counter() - begin, children_peak() - before, flush=True)


if __name__ == "__main__":
    run_once() if sys.argv[4:] == ["once"] else main()
