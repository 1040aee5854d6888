"""Evaluation: how well a pastiche keeps the structure of its content image."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
