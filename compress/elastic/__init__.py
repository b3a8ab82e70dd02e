"""One checkpoint, many depths: making elastic checkpoints, and the standalone model of one of their depths."""

from compress.elastic.extract import extract, structure_at
from compress.elastic.make import make
from compress.elastic.rules import RULES, ElasticConfig, rule_structures

__all__ = ["RULES", "ElasticConfig", "extract", "make", "rule_structures", "structure_at"]
