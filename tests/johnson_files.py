"""Seeded weights of the published forms of Johnson et al.'s network."""

import numpy as np

FORMS = ("pytorch-examples", "original", "original-batch", "original-nearest", "lengstrom")
SHAPES = {
    # odd sides, sides that are no multiples of four, two pictures
    "pytorch-examples": (2, 3, 21, 26),
    "original": (1, 3, 43, 41),
    "original-batch": (2, 3, 41, 42),
    "original-nearest": (1, 3, 44, 43),
    "lengstrom": (2, 3, 19, 22),
}


def weights(form, seed=0):
    """The arrays of a published file under its own keys."""
    random = np.random.RandomState(seed)
    if form == "lengstrom":
        return _lengstrom(random)
    return _pytorch_examples(random) if form == "pytorch-examples" else _original(random, form)


def picture(form, seed=1):
    """Pictures in the form's input range."""
    from seeded import picture

    count, _, height, width = SHAPES[form]
    planes = np.stack([picture(seed + i, height, width).transpose(2, 0, 1) for i in range(count)])
    if form.startswith("original"):
        return planes * np.float32(255) - np.float32([103.939, 116.779, 123.68])[:, None, None]
    return planes * np.float32(255)


def output_gradient(shape, seed=2):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def _kernel(random, shape, inputs):
    fan = inputs * np.prod(shape[2:])
    return (random.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)


def _vector(random, count, mean, deviation):
    return (mean + deviation * random.standard_normal(count)).astype(np.float32)


def _conv(random, key, inputs, outputs, kernel, transposed=False):
    shape = (inputs, outputs) if transposed else (outputs, inputs)
    return {
        f"{key}.weight": _kernel(random, (*shape, kernel, kernel), inputs),
        f"{key}.bias": _vector(random, outputs, 0, 0.1),
    }


def _norm(random, key, channels, batch=False):
    arrays = {
        f"{key}.weight": _vector(random, channels, 1, 0.2),
        f"{key}.bias": _vector(random, channels, 0, 0.2),
    }
    if batch:
        arrays[f"{key}.running_mean"] = _vector(random, channels, 0, 0.3)
        arrays[f"{key}.running_var"] = np.abs(_vector(random, channels, 2, 0.5))
    return arrays


def _pytorch_examples(random):
    arrays = {}
    for i, (inputs, outputs, kernel) in enumerate([(3, 32, 9), (32, 64, 3), (64, 128, 3)], 1):
        arrays |= _conv(random, f"conv{i}.conv2d", inputs, outputs, kernel)
        arrays |= _norm(random, f"in{i}", outputs)
    for i in range(1, 6):
        for k in (1, 2):
            arrays |= _conv(random, f"res{i}.conv{k}.conv2d", 128, 128, 3)
            arrays |= _norm(random, f"res{i}.in{k}", 128)
    for i, (inputs, outputs) in enumerate([(128, 64), (64, 32)], 1):
        arrays |= _conv(random, f"deconv{i}.conv2d", inputs, outputs, 3)
        arrays |= _norm(random, f"in{i + 3}", outputs)
    return arrays | _conv(random, "deconv3.conv2d", 32, 3, 9)


def _original(random, form, root="model"):
    """Half the published widths: 16, 32 and 64 channels."""
    arrays, place, batch = {}, 2, form == "original-batch"

    def module(step):
        nonlocal place
        place += step
        return f"{root}.modules.{place - step}"

    for inputs, outputs, kernel in ((3, 16, 9), (16, 32, 3), (32, 64, 3)):
        arrays |= _conv(random, module(1), inputs, outputs, kernel)
        arrays |= _norm(random, module(2), outputs, batch)
    for _ in range(5):
        block = f"{module(1)}.modules.1.modules.1.modules"
        for k in (1, 4):
            arrays |= _conv(random, f"{block}.{k}", 64, 64, 3)
            arrays |= _norm(random, f"{block}.{k + 1}", 64, batch)
    for inputs, outputs in ((64, 32), (32, 16)):
        if form == "original-nearest":
            module(1)
            arrays |= _norm(random, module(2), inputs)
            arrays |= _conv(random, module(1), inputs, outputs, 3)
        else:
            arrays |= _conv(random, module(1), inputs, outputs, 3, transposed=True)
        arrays |= _norm(random, module(2), outputs, batch)
    # a small last kernel keeps the tanh off its flat ends
    last = _conv(random, module(1), 16, 3, 9)
    return arrays | {key: np.float32(0.2) * array for key, array in last.items()}


def _lengstrom(random):
    arrays = {}

    def layer(index, inputs, outputs, kernel, transposed=False):
        weight = _kernel(random, (outputs, inputs, kernel, kernel), inputs)
        weight = weight.transpose((2, 3, 0, 1) if transposed else (2, 3, 1, 0))
        key = [f"Variable_{i}" if i else "Variable" for i in range(index, index + 3)]
        arrays[key[0]] = np.ascontiguousarray(weight)
        arrays[key[1]] = _vector(random, outputs, 0, 0.2)
        arrays[key[2]] = _vector(random, outputs, 1, 0.2)

    layer(0, 3, 32, 9)
    layer(3, 32, 64, 3)
    layer(6, 64, 128, 3)
    for index in range(9, 39, 3):
        layer(index, 128, 128, 3)
    layer(39, 128, 64, 3, transposed=True)
    layer(42, 64, 32, 3, transposed=True)
    layer(45, 32, 3, 9)
    return arrays
