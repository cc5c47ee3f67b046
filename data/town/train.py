"""Train a base model on the endless stream of documents: python data/town/train.py --out FOLDER.

Every document is fresh: nothing is read twice. A run that was stopped goes on where it stood when
the same command is given again, and ends as if it had not been stopped.

A story needs the names it began with, and a small model finds that out too late: names are
interchangeable, so with tied embeddings they all fall into one point, and then nothing can tell
which of them to repeat. So the output layer is not tied; the model begins with heads that copy
(`induction.py`); and each batch holds a few drills, rows of random words that repeat each other.
Rows start at a random position, so that no position means anything.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rlhf_helpers.runtime import bf16, files  # noqa: E402
from town import induction, stream  # noqa: E402

WIDTH, LAYERS, HEADS = 192, 4, 6
MUON_LR, ADAM_LR = 0.03, 0.004  # peaks
WARMUP_TOKENS = 200_000


def build(tokenizer) -> GPT2LMHeadModel:
    """Make the untrained model, with heads that copy."""
    torch.manual_seed(stream.SEED)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=stream.CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        tie_word_embeddings=False,
        activation_function="gelu_pytorch_tanh",  # the same function as "gelu_new", fused
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = GPT2LMHeadModel(config)
    for block in model.transformer.h:  # every block starts by adding nothing
        torch.nn.init.zeros_(block.mlp.c_proj.weight)
    induction.write(model, stream.frequencies(tokenizer))
    return model


def token_losses(
    model: GPT2LMHeadModel, rows: torch.Tensor, rng: random.Random | None = None, half: bool = False
) -> torch.Tensor:
    """Return the loss of every token that counts, (N,), in nats.

    Pads need no mask: they stand on the right, and attention looks left. With `rng` every row
    starts at a random position.
    """
    inputs, targets = rows[:, :-1].clamp(min=0), rows[:, 1:].flatten()
    room = stream.CONTEXT - inputs.shape[1]
    starts = torch.tensor([[rng.randint(0, room) if rng else 0] for _ in rows], device=rows.device)
    places = starts + torch.arange(inputs.shape[1], device=rows.device)
    counts = targets != stream.IGNORED
    with torch.autocast(rows.device.type, torch.bfloat16, enabled=half):
        hidden = model.transformer(inputs, position_ids=places).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[counts])  # pads get none
    return torch.nn.functional.cross_entropy(logits.float(), targets[counts], reduction="none")


@torch.no_grad()
def perplexity(model: GPT2LMHeadModel, rows: list[list[int]], device: str) -> float:
    rows = sorted((row[: stream.CONTEXT] for row in rows), key=len)
    groups = [stream.pad(rows[i : i + 32]).to(device) for i in range(0, len(rows), 32)]
    return math.exp(torch.cat([token_losses(model, g).cpu() for g in groups]).mean().item())


@torch.no_grad()
def copying(
    model: GPT2LMHeadModel, rows: list[list[int]], names: Sequence[int], device: str
) -> float:
    """Return the mean probability of a name that the row has said before."""
    chosen, found = set(names), []
    for row in rows:
        probabilities = (
            model(torch.tensor([row[: stream.CONTEXT - 1]], device=device)).logits[0].softmax(-1)
        )
        found += [
            probabilities[i - 1, t].item()
            for i, t in enumerate(row[: stream.CONTEXT - 1])
            if t in chosen and t in row[:i]
        ]
    return sum(found) / len(found)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan 2024), as `torch.optim.Muon`, but in
    float32: that one multiplies in bfloat16, fifty times slower where there are no instructions."""

    def __init__(self, matrices: list[torch.nn.Parameter], lr: float, weight_decay: float = 0.05):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["mean"] = torch.zeros_like(p)
                state["mean"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(state["mean"], group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Push all singular values towards 1 by five Newton-Schulz steps."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def optimizers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks (it needed half the tokens of AdamW here), AdamW for
    the rest."""
    matrices = [p for name, p in model.named_parameters() if ".h." in name and p.dim() == 2]
    rest = [model.transformer.wte.weight, model.transformer.wpe.weight, model.lm_head.weight]
    taken = {id(p) for p in [*matrices, *rest]}
    rest += [p for p in model.parameters() if id(p) not in taken]
    return [
        Muon(matrices, lr=MUON_LR),
        torch.optim.AdamW(rest, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(seen: int, total: int, decay: int) -> float:
    """Say by what to multiply every learning rate: up, flat, then down over the last `decay`."""
    return max(0.0, min(1.0, (seen + stream.BATCH_TOKENS) / WARMUP_TOKENS, (total - seen) / decay))


def save(folder: Path, tokenizer, model: GPT2LMHeadModel, optims: list, record: dict) -> None:
    """Replace the folder, whole or not at all, by the model and what a resumed run needs."""
    state = {
        f"{i}.{j}.{name}": torch.as_tensor(value).cpu().contiguous()
        for i, optimizer in enumerate(optims)
        for j, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    with files.writing(f"the model in {folder}"), files.replacing(folder) as new:
        tokenizer.save_pretrained(new)
        model.save_pretrained(new)
        save_file(state, new / "optimizers.safetensors")
        files.write_json(new / "training.json", record)


def restore(folder: Path, optims: list) -> None:
    """Give the optimizers back the state that `save` wrote."""
    kept = load_file(folder / "optimizers.safetensors")
    for i, optimizer in enumerate(optims):
        state = optimizer.state_dict()
        for name, value in kept.items():
            which, j, key = name.split(".")
            if int(which) == i:
                state["state"].setdefault(int(j), {})[key] = value
        optimizer.load_state_dict(state)


def measure(model: GPT2LMHeadModel, tokenizer, held_out: dict, device: str) -> dict[str, float]:
    """Return the perplexity of each kind, how surely names that were said are said again, and the
    loss of drills, in which everything but the beginning is said again."""
    names, rng = stream.name_tokens(tokenizer), random.Random(0)
    words = range(2, len(tokenizer))
    drills = stream.pad([stream.drill(words, names, rng) for _ in range(64)])
    with torch.no_grad():
        again = token_losses(model, drills.to(device)).view(64, -1)[:, stream.DRILL_LENGTH // 2 :]
    return {
        "drills": round(again.mean().item(), 3),
        **{kind: round(perplexity(model, rows, device), 3) for kind, rows in held_out.items()},
        "copying": round(copying(model, held_out["stories"][:50], names, device), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder, in transformers' format")
    parser.add_argument("--tokens", type=int, default=30_000_000, help="to train on, all told")
    parser.add_argument(
        "--decay", type=int, default=10_000_000, help="the learning rate falls over the last tokens"
    )
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not (args.out / "tokenizer.json").exists():
        args.out.mkdir(parents=True, exist_ok=True)
        stream.make_tokenizer(args.out)
    tokenizer = AutoTokenizer.from_pretrained(args.out)
    record = {"tokens": 0, "steps": 0, "blocks": 0, "seconds": 0, "path": []}
    if (args.out / "training.json").exists():
        record = json.loads((args.out / "training.json").read_text())
        model = GPT2LMHeadModel.from_pretrained(args.out, dtype=torch.float32)
    else:
        model = build(tokenizer)
    optims = optimizers(model.to(device))
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optims]
    if record["tokens"]:
        restore(args.out, optims)
    record["parameters"] = sum(p.numel() for p in model.parameters())
    held_out = {
        kind: stream.encoded(tokenizer, kind, "validation", range(200)) for kind in stream.BLOCK
    }
    half = bf16.choose("auto", torch.device(device)) == "bf16"
    done = {"total": args.tokens, "initial": record["tokens"]}
    bar = tqdm(**done, unit="token", unit_scale=True, mininterval=5)
    began, before = time.time(), record["seconds"]
    for batches in stream.blocks(tokenizer, record["blocks"]):
        rng, losses = random.Random(f"{stream.SEED} places {record['blocks']}"), []
        for batch in batches:
            factor = schedule(record["tokens"], args.tokens, args.decay)
            set_rates(optims, [[factor * lr for lr in lrs] for lrs in peaks])
            found = token_losses(model, batch.to(device), rng, half)
            step(model, found.mean(), optims)
            losses.append(found.mean().item())
            record["tokens"] += len(found)
            bar.update(len(found))
        record["steps"] += len(batches)
        record["blocks"] += 1
        record["seconds"] = before + round(time.time() - began)
        passed = {"tokens": record["tokens"], "loss": round(sum(losses) / len(losses), 4)}
        record["path"].append(passed | measure(model, tokenizer, held_out, device))
        print(json.dumps(record["path"][-1] | {"seconds": record["seconds"]}), flush=True)
        save(args.out, tokenizer, model, optims, record)
        if record["tokens"] >= args.tokens:
            break


def set_rates(optims: list, rates: list[list[float]]) -> None:
    for optimizer, lrs in zip(optims, rates, strict=True):
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr


def step(model: GPT2LMHeadModel, loss: torch.Tensor, optims: list) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optims:
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
