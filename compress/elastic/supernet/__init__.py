"""Supernets: which parts of a model its smaller sizes keep, learned while all of them are trained.

Xu et al. 2024 (arXiv 2407.18930). Decided is a ranking of the parts, and every size is a prefix of it.
"""

from compress.elastic.supernet.history import History
from compress.elastic.supernet.limits import SizesConfig, Subnets, make_subnets
from compress.elastic.supernet.masks import PartMasks
from compress.elastic.supernet.methods import SelectionConfig, make_selection
from compress.elastic.supernet.parts import Part, Parts, PartsConfig, parts_of
from compress.elastic.supernet.selection import PartSelection

__all__ = [
    "History",
    "Part",
    "PartMasks",
    "PartSelection",
    "Parts",
    "PartsConfig",
    "SelectionConfig",
    "SizesConfig",
    "Subnets",
    "make_selection",
    "make_subnets",
    "parts_of",
]
