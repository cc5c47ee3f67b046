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
sys.path.insert(0, str(DATA.parent))

from rlhf_helpers.runtime import files  # noqa: E402

# Bar, what is wanted, what `examine.py` calls it; all but the first three are shares.
BARS = (
    ("perplexity of stories, validation split", "3.3 to 6", "perplexity_validation_stories"),
    ("choice, nats a token of the same", "1.2 to 1.8", "nats_a_token_validation"),
    ("an answer of 24 tokens at temperature 0.7 holds, nats", "at least 22", "answer_nats"),
    ("whole sentences that the grammar can have made", "at least 95 %", "well_formed"),
    ("people, thing and place of the beginning are kept", "at least 90 %", "kept"),
    ("no contradiction at all", "at least 85 %", "consistent"),
    ("zero-shot `TL;DR:` states a fact and only true ones", "30 to 80 %", "truthful"),
)


def bars(measured: dict[str, float]) -> str:
    """Write the bars as a Markdown table, with the 95 % interval over seeds where there is one."""
    rows = []
    for says, wanted, name in BARS:
        share = "%" in wanted
        shown = f"{measured[name]:.1%}" if share else f"{measured[name]:.2f}"
        spread = measured.get(f"{name}_interval")
        if spread is not None:
            shown += f" ± {100 * spread:.1f}" if share else f" ± {spread:.2f}"
        rows.append(f"| {says} | {wanted} | {shown} |")
    return "\n".join(["| bar | wanted | measured |", "|---|---|---|", *rows])


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
