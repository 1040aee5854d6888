from .metrics import Protocol, depth_difference, gradient_similarity, psnr, structural_similarity
from .pairs import Pair, Problem, match_folders, read_pairs, write_pairs
from .rows import Row
from .ssim import ssim_table
from .table import SSIMTable, Summary

__all__ = [
    "Pair",
    "Problem",
    "Protocol",
    "Row",
    "SSIMTable",
    "Summary",
    "depth_difference",
    "gradient_similarity",
    "match_folders",
    "psnr",
    "read_pairs",
    "ssim_table",
    "structural_similarity",
    "write_pairs",
]
