"""Choosing blocks to drop: CoMFLP's coarse search by correlation and fine search by word error rate, and baselines.

Block b, from 0, lies between boundaries b and b + 1. Only `coarse_search` numbers blocks from 1, as in the papers.
"""

from compress.search.boundaries import SampleConfig, sample_boundaries
from compress.search.bypass import removable, structure_without, without_blocks
from compress.search.coarse import Proposal, best_proposals, coarse_search, proposal_score, segments
from compress.search.similarity import distance_correlation, linear_cka, svcca

__all__ = [
    "Proposal",
    "SampleConfig",
    "best_proposals",
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
