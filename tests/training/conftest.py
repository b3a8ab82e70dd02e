from __future__ import annotations

import pytest
import torch
from transformers import ParakeetCTCConfig, ParakeetEncoderConfig, ParakeetForCTC


@pytest.fixture
def tiny_model() -> ParakeetForCTC:
    """A Parakeet of some thousand parameters, with dropout, so that random numbers matter."""
    torch.manual_seed(0)
    encoder = ParakeetEncoderConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        subsampling_factor=4,
        subsampling_conv_channels=4,
        num_mel_bins=16,
        layerdrop=0.0,
        dropout=0.2,
    )
    return ParakeetForCTC(ParakeetCTCConfig(encoder_config=encoder, vocab_size=8, pad_token_id=7)).train()
