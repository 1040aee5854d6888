"""Processor levels to test on."""

from depthstyle import _core

# The levels above "avx512" compute fp32 with its code.
BF16_LEVELS = ("avx512_bf16", "amx")
FP32_LEVELS = [level for level in _core.cpu_levels() if level not in BF16_LEVELS]
