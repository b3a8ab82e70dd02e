"""Choose, on a dev set, which frames skip the last blocks because they are blank, and store it in the checkpoint.

The checkpoint must have intermediate CTC outputs, which recipes/train.py and recipes/prune.py learn with --skipping.
Of all numbers of first blocks behind which there is one, and all --thresholds and --extensions, the setting with the
fewest MACs is chosen that lets the word error rate rise by no more than --max-wer-increase percentage points (absolute:
0.1 allows 2.0 % to become 2.1 %). No weight changes; model.set_skipping(threshold=1) switches skipping off again.

Examples:
  accelerate launch recipes/train.py --config configs/train/parakeet-skipping_digits.yaml
  compress skip runs/parakeet-skipping_digits/best --data my-speech --max-wer-increase 0.1 --out runs/skips
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Chooses what is skipped, prints what was measured and writes the checkpoint.

    Args:
        arguments: The words after `compress skip`.

    Raises:
        ValueError: If the checkpoint has no intermediate output, no setting holds, or an option is unusable.
        OSError: If the model or the data cannot be found.
    """
    from compress.config import parse
    from compress.reports.console import show
    from compress.search.skip_report import page_of
    from compress.search.skip_settings import CalibrateConfig, calibrate

    config = parse(CalibrateConfig, arguments, prog="compress skip", description=__doc__, positional=["model"])
    show(page_of(calibrate(config)), written=config.out)
