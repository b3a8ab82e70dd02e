"""The history of a selection: which parts left the sub-net, and came back, at which step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class History:
    """Changes of the kept parts over the steps; part of a run's checkpoints.

    Attributes:
        changes: in order of steps, `{"step": ..., "left": [...], "back": [...]}` with numbers of parts.
    """

    def __init__(self, parts: int) -> None:
        self.changes: list[dict[str, Any]] = []
        self._kept = set(range(parts))

    def note(self, step: int, kept: Iterable[int]) -> None:
        """Takes note of the parts kept after a step; steps without a change leave nothing."""
        now = set(kept)
        if now != self._kept:
            self.changes.append({"step": step, "left": sorted(self._kept - now), "back": sorted(now - self._kept)})
            self._kept = now

    def spans(self, part: int, end: int) -> list[tuple[int, int]]:
        """From which step to which a part was kept.

        Args:
            part: its number.
            end: the last step.
        """
        spans: list[tuple[int, int]] = []
        since: int | None = 0
        for change in self.changes:
            if part in change["left"] and since is not None:
                spans.append((since, change["step"]))
                since = None
            elif part in change["back"]:
                since = change["step"]
        return spans if since is None else [*spans, (since, end)]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"changes": self.changes, "kept": sorted(self._kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.changes, self._kept = list(state["changes"]), set(state["kept"])
