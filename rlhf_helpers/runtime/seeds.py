"""Seeds for everything that draws by chance, derived so that no two purposes share their draws."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, purpose: str, number: int = 0) -> int:
    """Derive the seed of one purpose, for instance ("pass", 3), from the seed of the whole.

    A hash and not a sum: seed 1 and number 0 must not draw what seed 0 and number 1 draw. Returns
    an integer of 63 bits.
    """
    digest = hashlib.sha256(f"{seed} {purpose} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(
    seed: int, purpose: str, number: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Make the random generator of one purpose on a device."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, number))
