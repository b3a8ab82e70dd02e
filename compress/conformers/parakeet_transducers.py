"""Parakeet with a transducer (`ParakeetForTDT`, `ParakeetForRNNT`): the encoder of the CTC model under another head."""

from dataclasses import replace

from compress.conformers.parakeet import PARAKEET

PARAKEET_TDT = replace(
    PARAKEET,
    name="parakeet_tdt",
    model_type="parakeet_tdt",
    model_class="ParakeetForTDT",
    head=None,
    auto_class="AutoModelForTDT",
)
PARAKEET_RNNT = replace(
    PARAKEET,
    name="parakeet_rnnt",
    model_type="parakeet_rnnt",
    model_class="ParakeetForRNNT",
    head=None,
    auto_class="AutoModelForRNNT",
)
