"""Train the base model on the corpus from nothing (`make base`): a small GPT-2, one document per row, one seed.

It learns to copy before it learns to write. A story needs the names it began with, and a small model finds that out too late: names are
interchangeable, so their embeddings fall together, and then nothing can tell which one to repeat. Three things prevent it, each measured
by the probability of a repeated name (uniform over 111 names without them):
- large token embeddings, so that a word's identity outlives what the blocks add to it;
- drills first: rows of random words that only repeat each other, where copying is all there is to learn;
- rows that hold one document each, so that whatever repeats is worth copying.

The second command of `make base` goes on from there with posts and reports three times as often, for a summary must copy whole phrases.

Writes transformers' format to `data/base`; the loss shows in the progress bar, the validation perplexity every 500 steps.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from grammar import World
from tqdm.auto import tqdm
from train_tokenizer import CONTEXT, DATA, documents
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

SEED = 2019
WIDTH, LAYERS, HEADS = 192, 4, 6
DRILL_ROWS, DRILL_LENGTH = 24, 40
IGNORED = -100  # cross_entropy's mark for targets that do not count


def build(vocabulary: int, end: int) -> GPT2LMHeadModel:
    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        activation_function="gelu_pytorch_tanh",  # the same function as "gelu_new", fused
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end, pad_token_id=end + 1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_(0, 0.5)
        model.transformer.ln_f.weight.fill_(0.2)  # the output shares those embeddings: start with small logits all the same
    return model


def encoded(split: str, tokenizer, summaries: int = 1) -> list[list[int]]:
    """Return every document of a split as tokens, an end token before and after it; those with a summary `summaries` times."""
    end, texts = tokenizer.eos_token_id, documents(split)
    texts += [text for text in texts if "TL;DR:" in text] * (summaries - 1)
    return [[end, *ids, end] for ids in tokenizer(texts)["input_ids"]]


def drill(vocabulary: Sequence[int], names: Sequence[int], rng: random.Random) -> list[int]:
    """Make a row that only repeats names or any tokens: two to four in any order, or a phrase of 4 to 20 again and again."""
    pool = names if rng.random() < 0.5 else vocabulary
    if rng.random() < 0.5:
        return rng.choices(rng.sample(pool, rng.randint(2, 4)), k=DRILL_LENGTH)
    return (rng.sample(pool, rng.randint(4, 20)) * DRILL_LENGTH)[:DRILL_LENGTH]


def batches(
    rows: list[list[int]], batch: int, names: Sequence[int], full_stop: int, steps: int, drills_only: int, drills: int
) -> Iterator[torch.Tensor]:
    """Yield `steps` batches, padded on the right: drills only at first, then documents of like length, with `drills` in each for a third.

    Every other time a document starts as a prompt does: without the end token, and after its first sentence if it is a story.
    """
    rng = random.Random(SEED)
    vocabulary = range(max(map(max, rows)) + 1)
    for _ in range(drills_only):
        yield pad([drill(vocabulary, names, rng) for _ in range(DRILL_ROWS)])
    groups: list[list[list[int]]] = []
    for step in range(steps - drills_only):
        if not groups:
            order = sorted(range(len(rows)), key=lambda i: (len(rows[i]) // 16, rng.random()))
            groups = [[rows[i] for i in order[k : k + batch]] for k in range(0, len(order) - batch + 1, batch)]
            rng.shuffle(groups)
        chosen = [begin_as_prompt(row, full_stop) if rng.random() < 0.5 else row for row in groups.pop()]
        yield pad(chosen + [drill(vocabulary, names, rng) for _ in range(drills if step < steps // 3 else 0)])


def begin_as_prompt(row: list[int], full_stop: int) -> list[int]:
    story = len(row) > 60 and full_stop in row[:60]
    return row[row.index(full_stop) + 1 :] if story else row[1:]


def pad(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])


def token_losses(model, rows: torch.Tensor) -> torch.Tensor:
    """Return the loss of every token that counts, (N,). Pads need no mask: they stand on the right, and attention looks left."""
    logits = model(rows[:, :-1].clamp(min=0)).logits
    targets = rows[:, 1:]
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")[
        targets.flatten() != IGNORED
    ]


@torch.no_grad()
def perplexity(model, rows: list[list[int]], device: str = "cpu") -> float:
    rows = sorted(rows, key=len)
    losses = torch.cat([token_losses(model, pad(rows[i : i + 64]).to(device)).cpu() for i in range(0, len(rows), 64)])
    return math.exp(losses.mean().item())


@torch.no_grad()
def copying(model, rows: list[list[int]], names: Sequence[int], device: str = "cpu") -> float:
    """Return the mean probability of a name that the row has said before: 0.009 if all 111 are equally likely."""
    chosen, found = set(names), []
    for row in rows:
        probabilities = model(torch.tensor([row[:-1]], device=device)).logits[0].softmax(-1)
        found += [probabilities[i - 1, t].item() for i, t in enumerate(row) if t in chosen and t in row[:i]]
    return sum(found) / len(found)


def optimizers(model: GPT2LMHeadModel, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks (it needed half the tokens of AdamW here), AdamW for the rest."""
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.dim() == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=0.4 * lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6600)
    parser.add_argument("--batch", type=int, default=16, help="documents")
    parser.add_argument("--lr", type=float, default=0.01, help="Muon's peak; AdamW's is 0.4 of it")
    parser.add_argument("--drills-only", type=int, default=600, help="steps of nothing but drills, first")
    parser.add_argument("--drills", type=int, default=2, help="drills in each batch of documents, for the first third of them")
    parser.add_argument("--summaries", type=int, default=1, help="how often posts and reports appear in one pass")
    parser.add_argument("--start", type=Path, help="go on from this model instead of from nothing")
    parser.add_argument("--out", type=Path, default=DATA / "base")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(DATA / "base")
    full_stop = tokenizer("It ends.")["input_ids"][-1]
    train, validation = encoded("train", tokenizer, args.summaries), encoded("validation", tokenizer)
    names = [tokenizer.convert_tokens_to_ids("\u0120" + name) for name in World().lexicon["name"]]  # U+0120: a space, in GPT-2's alphabet
    names = [t for t in names if t is not None]  # names of more than one token are left out
    model = (GPT2LMHeadModel.from_pretrained(args.start) if args.start else build(len(tokenizer), tokenizer.eos_token_id)).to(device)
    optims = optimizers(model, args.lr)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda i: min(1, (i + 1) / 50) * (1 - i / args.steps)) for o in optims]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(train):,} documents", flush=True)
    start, seen = time.time(), 0
    stream = batches(train, args.batch, names, full_stop, args.steps, args.drills_only, args.drills)
    for step, rows in enumerate(bar := tqdm(stream, total=args.steps, mininterval=10), start=1):
        losses = token_losses(model, rows.to(device))
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optims, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        seen += len(losses)
        if step % 20 == 0:
            bar.set_postfix(loss=f"{losses.mean().item():.3f}")
        if step % 500 == 0 or step == args.steps:
            measured = perplexity(model, validation if step == args.steps else validation[::8], device)
            repeated = copying(model, validation[:100], names, device)
            passed = f"{seen:,} tokens, {time.time() - start:.0f} s"
            print(f"step {step}: validation perplexity {measured:.3f}, repeated names {repeated:.3f}; {passed}", flush=True)
            model.save_pretrained(args.out)
    record = {
        "parameters": sum(p.numel() for p in model.parameters()), "steps": args.steps, "tokens": seen,
        "seconds": round(time.time() - start), "device": device, "validation_perplexity": round(measured, 3),
        "commands": ["python data/train_base.py " + " ".join(sys.argv[1:])],
    }  # fmt: skip
    if args.start:  # what came before counts too
        before = json.loads((args.start / "training.json").read_text())
        record |= {name: before[name] + record[name] for name in ("steps", "tokens", "seconds", "commands")}
    (args.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
