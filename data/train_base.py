"""Train the base model on the corpus from nothing (`make base`): a small GPT-2, one document per
row, one seed.

A story needs the names it began with, and a small model finds that out too late: names are
interchangeable, so with tied embeddings they all fall into one point, and then nothing can tell
which of them to repeat. Four things let it copy from the start: - the output layer is not tied:
words may be alike for the output and stay apart for the input, where embeddings start large; - the
output starts as a small copy of the input embeddings, so that passing a word on is already a guess
that it comes again; - drills, first alone and then in each batch: rows of random words that repeat
each other, where copying is all there is to learn; - rows hold one document each, at a random
offset: whatever repeats is worth copying, and no position means anything.

Four lessons, each a command of `make base`, as samples of the lesson before showed what was
missing: whole documents; then every other one begins as a prompt does, without the end token before
it, and stories after their first sentence (a model that always saw that token babbles without it);
then many rows hold a second document, so that something sensible follows the end of the first; then
twice as many posts as stories, none of them seen before, for a summary must look up whole phrases.
Ten million tokens more of the third lesson give the stories back what the fourth took from them,
and keep their sentences whole.

Writes transformers' format to `data/base`; the loss shows in the progress bar, the validation
perplexity every 250,000 tokens.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from grammar import World
from make_corpus import SIZES, make_split
from tqdm.auto import tqdm
from train_tokenizer import CONTEXT, DATA, documents
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

SEED = 2019
WIDTH, LAYERS, HEADS = 192, 4, 6
BATCH_TOKENS = 4096  # a step, about
# steps of drills alone, their rows; then so many per document
DRILLS_ONLY, DRILL_ROWS, DRILL_LENGTH, DRILL_SHARE = 400, 32, 40, 0.1
# peaks; the last three are AdamW's
MUON_LR, EMBEDDING_LR, OUTPUT_LR, OTHER_LR = 0.02, 0.005, 0.004, 0.003
WARMUP_TOKENS, FLAT_SHARE = 120_000, 0.2  # then down to nothing in a straight line
JOINED = 0.4  # of the batches, from the third lesson on, hold two documents a row
IGNORED = -100  # cross_entropy's mark for targets that do not count


def build(vocabulary: int, end: int) -> GPT2LMHeadModel:
    torch.manual_seed(SEED)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        tie_word_embeddings=False,
        activation_function="gelu_pytorch_tanh",  # the same function as "gelu_new", fused
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end + 1,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_(0, 0.5)
        model.lm_head.weight.copy_(0.05 * model.transformer.wte.weight)
        for block in model.transformer.h:  # every block starts by adding nothing
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
    return model


def encoded(split: str, tokenizer) -> list[list[int]]:
    """Return every document of a split as tokens, an end token before and after it."""
    end = tokenizer.eos_token_id
    return [[end, *ids, end] for ids in tokenizer(documents(split))["input_ids"]]


def written_anew(tokenizer, stories: list[list[int]]) -> list[list[int]]:
    """Return posts and reports that stand in no split, and half of the stories."""
    world, end, held = (
        World(),
        tokenizer.eos_token_id,
        {text for split in ("validation", "test") for text in documents(split)},
    )
    texts = []
    for kind, size, opening in (("posts", 24_000, ""), ("reports", 8_000, "Article:\n\n")):
        rows = make_split(world, kind, "anew", size, set())
        texts += [f"{opening}{row['text']}\n\nTL;DR: {row['summary']}" for row in rows]
    return stories[::2] + [
        [end, *ids, end] for ids in tokenizer([t for t in texts if t not in held])["input_ids"]
    ]


def drill(vocabulary: Sequence[int], names: Sequence[int], rng: random.Random) -> list[int]:
    """Make a row that only repeats names or any tokens: two to four in any order, or a phrase of 4
    to 20 again and again."""
    pool = names if rng.random() < 0.5 else vocabulary
    if rng.random() < 0.5:
        return rng.choices(rng.sample(pool, rng.randint(2, 4)), k=DRILL_LENGTH)
    return (rng.sample(pool, rng.randint(4, 20)) * DRILL_LENGTH)[:DRILL_LENGTH]


def batches(
    rows: list[list[int]],
    vocabulary: int,
    names: Sequence[int],
    rng: random.Random,
    lesson: int,
    full_stop: int,
) -> Iterator[torch.Tensor]:
    """Yield batches for ever, padded on the right: drills alone in the first lesson, then documents
    of like length with a few drills."""
    for _ in range(DRILLS_ONLY if lesson == 1 else 0):
        yield pad([drill(range(vocabulary), names, rng) for _ in range(DRILL_ROWS)])
    while True:
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i]) // 16, rng.random()))
        groups: list[list[list[int]]] = [[]]
        for i in order:
            if groups[-1] and (len(groups[-1]) + 1) * len(rows[i]) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(rows[i])
        rng.shuffle(groups)
        for group in groups:
            if lesson > 2 and rng.random() < JOINED:
                group = [
                    (first + second[1:])[:CONTEXT]
                    for first, second in zip(group[::2], group[1::2], strict=False)
                ] or group
            if lesson > 1:
                group = [
                    begin_as_prompt(row, full_stop) if rng.random() < 0.5 else row for row in group
                ]
            yield pad(
                group
                + [
                    drill(range(vocabulary), names, rng)
                    for _ in range(round(DRILL_SHARE * len(group)))
                ]
            )


def begin_as_prompt(row: list[int], full_stop: int) -> list[int]:
    story = len(row) > 60 and full_stop in row[:60]
    return row[row.index(full_stop) + 1 :] if story else row[1:]


def pad(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])


def token_losses(model, rows: torch.Tensor, rng: random.Random | None = None) -> torch.Tensor:
    """Return the loss of every token that counts, (N,). Pads need no mask: they stand on the right,
    and attention looks left.

    With `rng` every row starts at a random position.
    """
    inputs, targets = rows[:, :-1].clamp(min=0), rows[:, 1:]
    room = CONTEXT - inputs.shape[1]
    starts = torch.tensor([[rng.randint(0, room) if rng else 0] for _ in rows], device=rows.device)
    places = starts + torch.arange(inputs.shape[1], device=rows.device)
    # half precision for training only
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=rng is not None):
        logits = model(inputs, position_ids=places).logits
    counts = targets.flatten() != IGNORED
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )[counts]  # fmt: skip


@torch.no_grad()
def perplexity(model, rows: list[list[int]], device: str = "cpu") -> float:
    rows = sorted(rows, key=len)
    losses = torch.cat(
        [
            token_losses(model, pad(rows[i : i + 64]).to(device)).cpu()
            for i in range(0, len(rows), 64)
        ]
    )
    return math.exp(losses.mean().item())


@torch.no_grad()
def copying(model, rows: list[list[int]], names: Sequence[int], device: str = "cpu") -> float:
    """Return the mean probability of a name that the row has said before: 0.025 if all 40 are
    equally likely."""
    chosen, found = set(names), []
    for row in rows:
        probabilities = model(torch.tensor([row[:-1]], device=device)).logits[0].softmax(-1)
        found += [
            probabilities[i - 1, t].item()
            for i, t in enumerate(row)
            if t in chosen and t in row[:i]
        ]
    return sum(found) / len(found)


def optimizers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks (it needed half the tokens of AdamW here), AdamW for
    the rest."""
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.dim() == 2]
    embeddings = [model.transformer.wte.weight, model.transformer.wpe.weight]
    taken = {id(p) for p in [*matrices, *embeddings, model.lm_head.weight]}
    groups = [
        {"params": embeddings, "lr": EMBEDDING_LR},
        {"params": [model.lm_head.weight], "lr": OUTPUT_LR},
        {"params": [p for p in model.parameters() if id(p) not in taken], "lr": OTHER_LR},
    ]
    return [
        torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.05, adjust_lr_fn="original"),
        torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(seen: int, total: int) -> float:
    """Say by what to multiply every learning rate after `seen` of `total` tokens: up, flat, then
    down in a straight line."""
    return min(1.0, (seen + BATCH_TOKENS) / WARMUP_TOKENS, (1 - seen / total) / (1 - FLAT_SHARE))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=15_000_000, help="to train on, all told")
    parser.add_argument(
        "--until", type=int, help="stop here; the learning rate falls towards --tokens all the same"
    )
    parser.add_argument(
        "--lesson", type=int, choices=(1, 2, 3, 4), default=1, help="2 to 4 go on from --start"
    )
    parser.add_argument("--lr", type=float, default=1.0, help="multiplies all learning rates")
    parser.add_argument(
        "--start",
        type=Path,
        default=DATA / "base",
        help="the model of the lesson before (its optimizers start anew)",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="store the end in half precision, so that a clone stays small",
    )
    parser.add_argument("--out", type=Path, default=DATA / "base")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(DATA / "base")
    train, validation = encoded("train", tokenizer), encoded("validation", tokenizer)
    if args.lesson == 4:
        train = written_anew(tokenizer, train[: SIZES["stories"]["train"]])
    # U+0120: a space, in GPT-2's alphabet
    names = [tokenizer.convert_tokens_to_ids("\u0120" + name) for name in World().lexicon["name"]]
    names = [t for t in names if t is not None]  # a name of more than one token is left out
    full_stop = tokenizer("It ends.")["input_ids"][-1]
    if args.lesson == 1:
        before = {"steps": 0, "tokens": 0, "seconds": 0, "commands": []}
        model = build(len(tokenizer), tokenizer.eos_token_id).to(device)
    else:
        before = json.loads((args.start / "training.json").read_text())
        model = GPT2LMHeadModel.from_pretrained(args.start, dtype=torch.float32).to(device)
    start, seen, step, until = (
        time.time(),
        before["tokens"],
        before["steps"],
        args.until or args.tokens,
    )
    optims, rng, probe = optimizers(model), random.Random(SEED + seen), seen
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optims]
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(train):,} documents, "
        f"{sum(map(len, train)):,} tokens",
        flush=True,
    )
    stream = batches(train, len(tokenizer), names, rng, args.lesson, full_stop)
    bar = tqdm(total=until, initial=seen, unit="token", unit_scale=True, mininterval=10)
    while seen < until:
        losses = token_losses(model, next(stream).to(device), rng)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, lrs in zip(optims, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = args.lr * lr * schedule(seen, args.tokens)
            optimizer.step()
            optimizer.zero_grad()
        seen, step = seen + len(losses), step + 1
        bar.update(len(losses))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{losses.mean().item():.3f}")
        if seen >= probe or seen >= until:
            measured = perplexity(model, validation if seen >= until else validation[::8], device)
            repeated = copying(model, validation[:100], names, device)
            passed = f"{seen:,} tokens, {time.time() - start:.0f} s"
            print(
                f"step {step}: validation perplexity {measured:.3f}, repeated names "
                f"{repeated:.3f}; {passed}",
                flush=True,
            )
            (copy.deepcopy(model).half() if args.half and seen >= until else model).save_pretrained(
                args.out
            )
            probe += 250_000
    record = {
        "parameters": sum(p.numel() for p in model.parameters()), "steps": step, "tokens": seen,
        "seconds": before["seconds"] + round(time.time() - start), "device": device,
        "validation_perplexity": round(measured, 3),
        "commands": [*before["commands"], " ".join(["python data/train_base.py", *sys.argv[1:]])],
    }  # fmt: skip
    (args.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
