from .depth_order import DepthOrderTable, OrderRow, depth_order_table
from .metrics import Protocol, depth_difference, gradient_similarity, psnr, structural_similarity
from .pairs import Pair, Problem, match_folders, read_pairs, write_pairs
from .point_pairs import PointPair, draw_pairs, random_pairs, read_annotations
from .rows import Row
from .ssim import ssim_table
from .table import SSIMTable, Summary

__all__ = [
    "DepthOrderTable",
    "OrderRow",
    "Pair",
    "PointPair",
    "Problem",
    "Protocol",
    "Row",
    "SSIMTable",
    "Summary",
    "depth_difference",
    "depth_order_table",
    "draw_pairs",
    "gradient_similarity",
    "match_folders",
    "psnr",
    "random_pairs",
    "read_annotations",
    "read_pairs",
    "ssim_table",
    "structural_similarity",
    "write_pairs",
]
