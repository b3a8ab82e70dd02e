"""Small jobs for every recipe: tiny models on a few seconds of tones, done in a second or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.helpers import pruning
from tests.helpers.launching import TINY

LOG = "log.txt"
"""Where a run of a job keeps what it said."""
TRAIN_STEPS, SELECT_STEPS, JOINT_STEPS = 6, 6, 4
ENDING = """
optimizer: {warmup_steps: 2}
log_every_steps: 1
threads: 1
"""


@dataclass(frozen=True)
class Job:
    """What a recipe is to do in a test.

    Attributes:
        recipe: its file.
        text: of its config, with places for folders.
        phases: steps of each phase, by the name of its folder; one phase has none.
        loss: a loss of the first phase.
        shortly: options by which it has as few steps as it can.
        in_pieces: whether two processes share its model out (FSDP2) instead of having one each.
    """

    recipe: str
    text: str
    phases: dict[str, int]
    loss: str
    shortly: Sequence[str]
    in_pieces: bool = False

    def due(self, phase: str) -> range:
        """The steps of a phase after which there is a checkpoint, but for the last."""
        every = int(yaml.safe_load(self.text)["checkpoint_every_steps"])
        return range(every, self.phases[phase], every)


def _training(blocks: int, text: str, *, in_pieces: bool = False) -> Job:
    text = TINY.replace("BLOCKS", str(blocks)) + text + f"max_steps: {TRAIN_STEPS}" + ENDING
    return Job("recipes/train.py", text, {"": TRAIN_STEPS}, "loss/ctc", ("--max_steps", "2"), in_pieces)


PLAIN = """
batch: {seconds: 12}
augment: {time_masks: 1, freq_masks: 1}
optim: muon
evaluate_every_steps: 2
checkpoint_every_steps: 2
"""
DEPTHS = """
batch: {seconds: 6, workers: 0}
accumulate: 2
inter_ctc:
  blocks: [1, 2]
  heads: separate
stochastic_depth: 0.6
elastic: {depths: [2]}
evaluate_every_steps: 3
checkpoint_every_steps: 3
"""
SKIPPING = """
batch: {seconds: 12, workers: 0}
skipping:
  first_blocks: [1, 2]
  threshold: 0.07
  simulated: 0.8
  consistency: 0.5
stochastic_depth: 0.3
elastic: {depths: [3]}
evaluate_every_steps: 3
checkpoint_every_steps: 3
"""
SUPERNET = f"""
batch: {{seconds: 6, workers: 0}}
accumulate: 2
sizes: {{parts: [8, 5, 2]}}
joint: {{warmup_steps: 2}}
evaluate_every_steps: 2
checkpoint_every_steps: 2
trackers: []
max_steps: {SELECT_STEPS + JOINT_STEPS}
"""
JOBS = {
    "train": _training(1, PLAIN),
    "depths": _training(4, DEPTHS, in_pieces=True),
    "skipping": _training(4, SKIPPING),
    "supernet": Job(
        "recipes/train_supernet.py",
        TINY.replace("BLOCKS", "2") + SUPERNET + ENDING,
        {"select": SELECT_STEPS, "joint": JOINT_STEPS},
        "loss/ctc/sub",
        ("--max_steps", "4"),
        in_pieces=True,
    ),
    "prune": Job(
        pruning.RECIPE,
        pruning.CONFIG,
        {"learn": pruning.LEARN, "recover": pruning.RECOVER},
        "loss/layers",
        ("--learn.steps", "1", "--learn.warmup_steps", "0", "--recover.steps", "1"),
    ),
}


def models_of(output: Path) -> set[str]:
    """The models that a run has left, by folder."""
    return {path.parent.relative_to(output).as_posix() for path in output.rglob("config.json")} - {"."}
