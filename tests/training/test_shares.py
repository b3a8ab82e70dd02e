"""A loss does not depend on how utterances fall on processes and micro-batches."""

from __future__ import annotations

import json
from pathlib import Path

from tests.helpers import forked


def test_gradients_and_losses_are_those_of_one_batch_that_holds_all(tmp_path: Path) -> None:
    """Three utterances on one rank and one on the other; seven in batches of two, one, one and three."""
    out = tmp_path / "found.json"
    ended = forked.run_two(["-m", "tests.helpers.two_shares", str(out)])
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert len(found) == 8
    far = {(name, split): by for name, splits in found.items() for split, by in splits.items() if max(by) > 1e-5}
    assert not far
