"""Depth-aware neural style transfer: an engine in C and CUDA under a thin Python layer."""

__version__ = "0.1.0"
