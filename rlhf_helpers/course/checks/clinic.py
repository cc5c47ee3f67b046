"""What else notebook 05 checks: a rebuilt piece against the package's, and the clinic, three runs
of PPO with a bug each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rlhf_helpers.course.checks.verdict import NotYet, Unsolved, check


def nb05_same(name: str, mine: Any, package: Any, tolerance: float = 1e-4) -> None:
    """Print how close a rebuilt piece is to the package's; raises AssertionError if it differs."""
    a, b = (torch.as_tensor(x).detach().cpu().double() for x in (mine, package))
    assert a.shape == b.shape, f"{name}: the shapes {tuple(a.shape)} and {tuple(b.shape)} differ"
    difference = (a - b).abs().max().item()
    assert difference <= tolerance, f"{name}: the largest difference is {difference:.3g}"
    close = "bit for bit" if difference == 0 else f"to within {tolerance:g}"
    print(f"{name}: equal to the package's, {close}")


LOOK_AGAIN = {  # a wrong suspect: which curve speaks against it
    "flipped KL sign": "then the policy would be paid for leaving, and the KL would run away from "
    "the healthy curve. Does it here?",
    "score on the first token": "then all later tokens earn penalties only: almost nothing is left "
    "for the values to learn, and the value loss would be close to 0. Is it here?",
    "returns after whitening": "then the value loss would stay flat at one half, whatever the "
    "policy does. Does it here?",
    "forgotten temperature": "then the ratio would be far from 1 before anything was learnt, and "
    "the KL far from 0 at the very first step. Is it here?",
}
ORDER = {"A": 2, "B": 0, "C": 1}  # patient: which of the suspects, in an order not shown


def nb05_shuffle(suspects: Mapping[str, Any]) -> dict[str, Any]:
    """Hand out three of the four suspects as patients A, B and C, in an order that is not shown."""
    names = list(suspects)
    return {patient: suspects[names[k]] for patient, k in ORDER.items()}


@check
def nb05_clinic(diagnosis: Mapping[str, Any] | None, suspects: Mapping[str, Any]) -> str:
    """Check {"A": name, "B": name, "C": name}; a wrong name gets the curve to look at."""
    names = list(suspects)
    truth = {patient: names[k] for patient, k in ORDER.items()}
    form = 'write {"A": ..., "B": ..., "C": ...}, with a name for each.'
    if diagnosis is not None and diagnosis is not ... and not isinstance(diagnosis, Mapping):
        raise NotYet(f"a {type(diagnosis).__name__} does not say who has what: {form}")
    if diagnosis is None or diagnosis is ... or all(diagnosis.get(p) in (None, ...) for p in truth):
        raise Unsolved("write the name of one suspect beside each patient.")
    for name in diagnosis.values():
        if name not in (None, ..., *names):
            raise NotYet(f"{name!r} is not among the suspects: {', '.join(names)}.")
    wrong = [p for p in truth if diagnosis.get(p) != truth[p]]
    if wrong:
        hints = [f"  {p}: {LOOK_AGAIN.get(str(diagnosis.get(p)), 'no name yet.')}" for p in wrong]
        raise NotYet("\n".join([f"{len(truth) - len(wrong)} of {len(truth)} right.", *hints]))
    return "all three patients. " + " ".join(f"{p}: {name}." for p, name in truth.items())
