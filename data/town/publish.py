"""Put a trained and examined base model in its place: python data/town/publish.py FOLDER.

Weights in half precision, tokenizer, what was measured, and the model card go to `data/base`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DATA = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(DATA.parent), str(DATA)]

from rlhf_helpers.runtime import files  # noqa: E402
from town.examine import SPLITS  # noqa: E402

# Bar, what is wanted of the validation split, what `examine.py` calls it before the split's name.
BARS = (
    ("perplexity of stories", "3.3 to 6", "perplexity_{}_stories"),
    ("loss, nats a token of stories", "1.2 to 1.8", "nats_a_token_{}"),
    ("nats in an answer of 24 tokens at temperature 0.7", "at least 22", "answer_nats_{}"),
    ("whole sentences that the grammar can have made", "at least 95 %", "well_formed_{}"),
    ("people, thing and place of the beginning are kept", "at least 90 %", "kept_{}"),
    ("no contradiction at all", "at least 85 %", "consistent_{}"),
    ("zero-shot `TL;DR:` states a fact and only true ones", "30 to 80 %", "truthful_{}"),
)


def bars(measured: dict[str, float]) -> str:
    """Write the bars as a Markdown table, with the 95 % interval over seeds where there is one."""
    rows = []
    for says, wanted, name in BARS:
        shown = [_shown(measured, name.format(split), "%" in wanted) for split in SPLITS]
        rows.append(f"| {says} | {wanted} | {' | '.join(shown)} |")
    return "\n".join(["| bar | wanted | validation | test |", "|---|---|---|---|", *rows])


def _shown(measured: dict[str, float], name: str, share: bool) -> str:
    shown = f"{measured[name]:.1%}" if share else f"{measured[name]:.2f}"
    if (spread := measured.get(f"{name}_interval")) is not None:
        shown += f" ± {100 * spread:.1f}" if share else f" ± {spread:.2f}"
    return shown


def card(measured: dict[str, float], training: dict) -> str:
    """Fill the model card's template in."""
    words = {name: value for name, value in measured.items() if name.startswith("perplexity")}
    return (
        (DATA / "base_card.md")
        .read_text(encoding="utf-8")
        .format(
            bars=bars(measured),
            parameters=training["parameters"],
            tokens=training["tokens"],
            minutes=round(training["seconds"] / 60),
            **words,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what train.py wrote and examine.py measured")
    parser.add_argument("--out", type=Path, default=DATA / "base")
    args = parser.parse_args()
    if not (args.folder / "measured.json").exists():
        parser.error(f"nothing was measured: run python data/town/examine.py {args.folder} first")
    measured = json.loads((args.folder / "measured.json").read_text())
    training = json.loads((args.folder / "training.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float16)
    with files.writing(f"the base model in {args.out}"), files.replacing(args.out) as new:
        AutoTokenizer.from_pretrained(args.folder).save_pretrained(new)
        model.save_pretrained(new)
        for name in ("measured.json", "training.json"):
            shutil.copy(args.folder / name, new / name)
        (new / "README.md").write_text(card(measured, training), encoding="utf-8")
    print(bars(measured))


if __name__ == "__main__":
    main()
