"""Speech in: folders, tables, the Hub and a synthetic corpus; checks, batches by seconds, augmentation."""

from compress.data.checks import BadDataError, Problem, write_problems
from compress.data.dataset import SpeechDataset, SpeechStream, Utterance
from compress.data.loader import Batch, SpeechLoader, extract_features, feature_extractor_of, of_first_buffer
from compress.data.opening import open_speech, require_split
from compress.data.settings import AugmentConfig, BatchConfig, SpeechConfig, SyntheticConfig
from compress.data.synthetic import make_corpus
from compress.data.vocabulary import vocabulary_of

__all__ = [
    "AugmentConfig",
    "BadDataError",
    "Batch",
    "BatchConfig",
    "Problem",
    "SpeechConfig",
    "SpeechDataset",
    "SpeechLoader",
    "SpeechStream",
    "SyntheticConfig",
    "Utterance",
    "extract_features",
    "feature_extractor_of",
    "make_corpus",
    "of_first_buffer",
    "open_speech",
    "require_split",
    "vocabulary_of",
    "write_problems",
]
