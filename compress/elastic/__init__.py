"""One checkpoint, many sizes: making elastic checkpoints, and the standalone model of one of their sizes."""

from compress.elastic.extract import at_full_size, extract, standalone
from compress.elastic.make import make_elastic
from compress.elastic.rules import RULES, ElasticConfig, rule_structures
from compress.running.subnets import structure_at

__all__ = [
    "RULES",
    "ElasticConfig",
    "at_full_size",
    "extract",
    "make_elastic",
    "rule_structures",
    "standalone",
    "structure_at",
]
