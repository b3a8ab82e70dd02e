"""From a block's output to logits: the way that the last block's output goes, in every family."""

from __future__ import annotations

import pytest
import torch
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerForCTC

from compress.conformers import UnsupportedModelError, blocks_of, head_logits
from compress.conformers.recording import BlockOutputs
from tests.helpers.tiny import CTC_MODELS, DIMENSIONS, OTHER_MODELS, batch


@pytest.mark.parametrize("name", CTC_MODELS)
def test_the_last_block_gives_the_logits_of_the_model(name: str) -> None:
    model = CTC_MODELS[name]()
    last = len(blocks_of(model)) - 1
    outputs = BlockOutputs(model, [last])
    with torch.no_grad():
        logits = model(**batch(model)).logits
        torch.testing.assert_close(head_logits(model, outputs.take()[last]), logits, rtol=0, atol=0)


def test_a_model_without_a_ctc_head_has_no_logits() -> None:
    model = OTHER_MODELS["parakeet_tdt"]()
    with pytest.raises(UnsupportedModelError, match="parakeet_tdt has no CTC head"):
        head_logits(model, torch.zeros(1, 2, 32))


def test_an_adapter_before_the_head_is_refused() -> None:
    convolutions = {"conv_dim": (16,), "conv_kernel": (10,), "conv_stride": (5,), "num_conv_pos_embedding_groups": 4}
    config = Wav2Vec2ConformerConfig(**DIMENSIONS, **convolutions, vocab_size=5, add_adapter=True)
    with torch.device("meta"):
        model = Wav2Vec2ConformerForCTC(config)
    with pytest.raises(UnsupportedModelError, match=r"stands wav2vec2_conformer\.adapter"):
        head_logits(model, torch.zeros(1, 2, 32, device="meta"))
