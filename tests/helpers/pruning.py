"""What the tests of recipes/prune.py begin with: a tiny teacher, the config of its compression, and running it here."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.launching import make_split, run_here

RECIPE = "recipes/prune.py"
LEARN, RECOVER = 8, 4

TEACHER = """
output: OUTPUT
model:
  family: parakeet
  settings:
    hidden_size: 32
    num_hidden_layers: 2
    num_attention_heads: 2
    intermediate_size: 96
    subsampling_conv_channels: 4
    subsampling_factor: 4
data: {source: DATA, cache_dir: CACHE}
batch: {seconds: 12, workers: 0}
max_steps: 4
optimizer: {warmup_steps: 1}
trackers: []
precision: fp32
threads: 1
"""

CONFIG = f"""
teacher: TEACHER
output: OUTPUT
data: {{source: DATA, cache_dir: CACHE}}
budget: {{params: 50%}}
structure: learned
gates: {{drop_rate: 0.05, ffn_drop_rate: 0.05}}
learn:
  steps: {LEARN}
  learning_rate: 1.0e-3
  warmup_steps: 2
  gate_learning_rate: 0.5
  multiplier_learning_rate: 2.0
recover: {{steps: {RECOVER}, learning_rate: 1.0e-3}}
batch: {{seconds: 6, workers: 0}}
accumulate: 2
evaluate_every_steps: 2
checkpoint_every_steps: 1
keep_checkpoints: 20
log_every_steps: 1
precision: fp32
threads: 1
"""


def make_teacher(folder: Path) -> None:
    """Fills a folder with speech, a teacher trained on it, and the config of its compression."""
    make_split(folder / "speech" / "train", 24, seed=1)
    make_split(folder / "speech" / "dev", 7, seed=2)
    values = {"DATA": folder / "speech", "CACHE": folder / "cache", "TEACHER": folder / "teacher" / "best"}
    for name, text in (("teacher", TEACHER), ("prune", CONFIG)):
        for key, value in values.items():
            text = text.replace(key, str(value))
        (folder / f"{name}.yaml").write_text(text.replace("OUTPUT", str(folder / name)))
    run_here("recipes/train.py", folder / "teacher.yaml", folder / "teacher")


def prune_here(folder: Path, output: Path, *overrides: str) -> Path:
    """Compresses the teacher of a folder in this process."""
    return run_here(RECIPE, folder / "prune.yaml", output, "--trackers", "[]", *overrides)
