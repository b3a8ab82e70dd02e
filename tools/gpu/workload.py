"""What is measured: the device, the dimensions, and how much time there is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import ParakeetCTCConfig, ParakeetForCTC, PreTrainedModel

from tools.experiments.public_configs import CONFIGS

LARGE = "nvidia/parakeet-ctc-0.6b"
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "subsampling_conv_channels": 16,
}
MATRIX, PRODUCTS = 8192, 10


@dataclass(frozen=True)
class Workload:
    """What every part knows.

    Attributes:
        folder: for logs and models.
        data: an audiofolder; None: there is none.
        ends: when everything has to be over, on the monotonic clock.
        steps: of the job's teacher.
        tiny: whether everything is small enough for a CPU.
    """

    folder: Path
    data: str | None
    ends: float
    steps: int
    tiny: bool

    @property
    def device(self) -> torch.device:
        """Where it is measured."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def memory_bytes(self) -> int:
        """Of the device; of a CPU, none."""
        return torch.cuda.get_device_properties(self.device).total_memory if self.device.type == "cuda" else 0

    @property
    def seconds_left(self) -> float:
        """How much time there is."""
        return self.ends - time.monotonic()

    def sized(self, large: int, tiny: int) -> int:
        """A number of anything."""
        return tiny if self.tiny else large

    def model(self) -> PreTrainedModel:
        """A new model in the dimensions of the workload, in eval mode, on the device, float32."""
        config = ParakeetCTCConfig(vocab_size=32, pad_token_id=31, encoder_config=TINY) if self.tiny else CONFIGS[LARGE]
        torch.manual_seed(0)
        with self.device:
            model: PreTrainedModel = ParakeetForCTC(config)
        return model.eval()

    def peak_flops(self) -> float:
        """Operations per second of a large bf16 matrix product on the device, the most that a step could reach."""
        size = self.sized(MATRIX, 256)
        left, right = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        for _ in range(3):
            left @ right
        self.wait()
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            left @ right
        self.wait()
        return PRODUCTS * 2 * size**3 / (time.perf_counter() - start)

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget(self) -> None:
        """Hands memory of models that are gone back to the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
