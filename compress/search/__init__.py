"""Choosing blocks to drop: CoMFLP's coarse search by correlation and fine search by word error rate, and baselines.

Blocks are numbered from 1 in this package, as in the papers: block b lies between boundaries b - 1 and b.
"""

from compress.search.boundaries import SampleConfig, sample_boundaries
from compress.search.bypass import removable, structure_without, without_blocks
from compress.search.coarse import Proposal, coarse_search, proposal_score, segments
from compress.search.similarity import distance_correlation, linear_cka, svcca

__all__ = [
    "Proposal",
    "SampleConfig",
    "coarse_search",
    "distance_correlation",
    "linear_cka",
    "proposal_score",
    "removable",
    "sample_boundaries",
    "segments",
    "structure_without",
    "svcca",
    "without_blocks",
]
