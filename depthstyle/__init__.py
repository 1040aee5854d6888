"""Depth-aware neural style transfer: an engine in C and CUDA under a thin Python layer.

The public names are listed in ``__init__.pyi``; each is imported when it is first used, so that
``import depthstyle`` stays fast.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
