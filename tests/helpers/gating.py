"""Gates that are as training has left them."""

from __future__ import annotations

from compress import Structure
from compress.deciding.gates import Gates


def settle(gates: Gates, structure: Structure) -> None:
    """Puts the noise-free gates of a decided Structure to work: kept parts at their value, the others closed."""
    gates.use(gates.values(structure), gates.mask(structure))
