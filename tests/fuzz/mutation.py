"""Random changes of files, for fuzzing."""

import random

NUMBERS = [0, 1, 2, 3, 4, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [2**62, 2**63 - 1, 2**63, 2**64 - 1]


def change(data: bytearray, rng: random.Random, seeds: list[bytes], tokens: list[bytes]) -> None:
    """Make one random change."""
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(8)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:
        width = rng.choice([1, 2, 4, 8])
        number = rng.choice(NUMBERS) + rng.choice([-1, 0, 1])
        data[at : at + width] = (number % 256**width).to_bytes(width, "little")
    elif kind == 3:
        token = rng.choice(tokens)
        data[at : at + rng.choice([0, len(token)])] = token
    elif kind == 4:
        del data[at : at + rng.choice([1, 2, 4, 8, 64])]
    elif kind == 5:
        part = data[at : at + rng.choice([1, 4, 16, 256])]
        to = rng.randrange(len(data) + 1)
        data[to:to] = part
    elif kind == 6:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        part = other[start : start + rng.choice([4, 32, 256])]
        data[at : at + len(part)] = part
    else:
        del data[at:]


def changed(data: bytes, rng: random.Random, seeds: list[bytes], tokens: list[bytes]) -> bytes:
    """Make one to four random changes."""
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        change(result, rng, seeds, tokens)
    return bytes(result)
