"""Plant one fault at a time in a copy of the package and demand that a test fails (`make mutants`).

Each fault is one that has been made, in released code or in tutorials: a flipped sign, a forgotten
temperature, an index off by one. A fault that no test notices is a hole in the tests, and makes
this command fail. Every set of tests runs once without a fault first and has to pass, or its
failures would say nothing; then once per fault. `noticed.json` says which test noticed a fault the
last time: that one runs alone, and the others only where it does not notice any more. `--record`
writes the file. `tests/test_mutants.py` keeps the list in step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTICED = Path(__file__).with_name("noticed.json")
# one process imports what is slow to import, each run of tests is a fork of it
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["pytest", "hypothesis", "torch", "datasets", "transformers.models.gpt2.modeling_gpt2"]
)


@dataclass(frozen=True)
class Mutant:
    """A fault: in this module, this text becomes that; the tests of these modules must notice."""

    fault: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...] = ()  # test_<module> if empty


MUTANTS = [
    # several answers to one query
    Mutant(
        "answers share the positions of the first",
        "sampling",
        "(lengths + after).clamp(min=0)",
        "(lengths + torch.arange(after.shape[1])).clamp(min=0)",
    ),
    Mutant(
        "parts left in the order of their lengths",
        "tensors",
        "torch.cat(list(found))[torch.cat(list(parts)).argsort()]",
        "torch.cat(list(found))",
        ("sampling",),
    ),
    Mutant(
        "rewards read where the pads had been",
        "reward",
        "_moved(mask, last.flatten(1)).view(last.shape)",
        "last.clamp(max=taken.shape[1] - 1)",
    ),
    Mutant(
        "parts of a row numbered as before its pads went",
        "reward",
        "parts = pack_parts(q, k, width - q).to(mask.device)[taken]",
        "parts = pack_parts(q, k, width - q).to(mask.device)[: taken.shape[1]]",
    ),
    Mutant(
        "first tokens predicted from the second column",
        "sampling",
        "first = hidden[:, q - 1 : q]",
        "first = hidden[:, q : q + 1]",
    ),
    Mutant(
        "the cache of one query dealt to its neighbour",
        "sampling",
        "cache.batch_repeat_interleave(answers)",
        "[layer.batch_repeat_interleave(1) or setattr(layer, 'keys', layer.keys.repeat(answers, 1, 1, 1)) or setattr(layer, 'values', layer.values.repeat(answers, 1, 1, 1)) for layer in cache.layers]",
    ),
    Mutant(
        "groups torn apart by the shuffle",
        "ppo",
        "rows = (order.unsqueeze(1) * config.answers + along).flatten()",
        "rows = torch.randperm(config.batch, generator=generator, device=device)",
    ),
    Mutant(
        "special tokens inside a text fitted",
        "reward",
        "answers = [[tasks.text_ids(tokenizer, option)",
        "answers = [[tasks.plain_ids(tokenizer, option)",
    ),
    Mutant(
        "both sides of a judged pair drawn alike",
        "evaluation",
        'seeds.generator(seed, "judged answers", number, policy.device)',
        'seeds.generator(seed, "judged answers", 0, policy.device)',
    ),
    Mutant(
        "a function of texts never punished",
        "reward",
        "return torch.where(finished, numbers.to(finished.device), task.penalty)",
        "return numbers.to(finished.device)",
    ),
    Mutant(
        "saved reward models pad on the left",
        "models",
        'tokenizers.save(self.tokenizer, folder, padding_side="right")',
        'tokenizers.save(self.tokenizer, folder, padding_side="left")',
        ("interop",),
    ),
    Mutant(
        "passes rounded down",
        "reward",
        "steps = -(-len(data) * config.epochs // size)",
        "steps = max(1, len(data) * config.epochs // size)",
    ),
    # tensors
    Mutant(
        "padding counted in means",
        "tensors",
        "    count = mask.sum()\n",
        "    count = torch.tensor(mask.numel())\n",
    ),
    Mutant(
        "masked numbers summed",
        "tensors",
        "torch.where(mask, x, 0).sum() / count",
        "x.sum() / count",
    ),
    Mutant(
        "variance not squared",
        "tensors",
        "masked_mean((x - masked_mean(x, mask)) ** 2, mask)",
        "masked_mean((x - masked_mean(x, mask)).abs(), mask)",
    ),
    Mutant(
        "rewards centred",
        "tensors",
        "rsqrt(masked_variance(x, mask) + EPSILON) + mean",
        "rsqrt(masked_variance(x, mask) + EPSILON)",
    ),
    Mutant(
        "advantages not centred",
        "tensors",
        "return (x - masked_mean(x, mask)) * torch.rsqrt",
        "return x * torch.rsqrt",
    ),
    Mutant(
        "whitened per row",
        "tensors",
        "return (x - masked_mean(x, mask)) * torch.rsqrt(masked_variance(x, mask) + EPSILON)",
        "return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + EPSILON)",
    ),
    Mutant("epsilon outside the root", "tensors", "EPSILON = 1e-8", "EPSILON = 1e-2"),
    Mutant(
        "temperature dropped from log-probabilities",
        "tensors",
        "    scaled = logits.float() / temperature\n",
        "    scaled = logits.float()\n",
    ),
    Mutant(
        "temperature multiplied in",
        "tensors",
        "    scaled = logits.float() / temperature\n",
        "    scaled = logits.float() * temperature\n",
    ),
    Mutant(
        "temperature dropped from the entropy",
        "tensors",
        "(logits.float() / temperature).log_softmax(-1)",
        "logits.float().log_softmax(-1)",
    ),
    Mutant(
        "sign of the entropy",
        "tensors",
        "return -(logprobs.exp() * logprobs).sum(-1)",
        "return (logprobs.exp() * logprobs).sum(-1)",
    ),
    Mutant(
        "sign of the KL",
        "tensors",
        "    return logprobs - reference_logprobs\n",
        "    return reference_logprobs - logprobs\n",
    ),
    Mutant(
        "k3 the wrong way round",
        "tensors",
        "log_ratio = reference_logprobs - logprobs",
        "log_ratio = logprobs - reference_logprobs",
    ),
    Mutant(
        "GAE forgets lambda",
        "tensors",
        "delta + gamma * lam * next_advantage",
        "delta + gamma * next_advantage",
    ),
    Mutant(
        "GAE ignores the next value",
        "tensors",
        "rewards[:, t] + gamma * next_value - values[:, t]",
        "rewards[:, t] - values[:, t]",
    ),
    Mutant(
        "GAE runs forwards",
        "tensors",
        "for t in reversed(range(rewards.shape[1])):",
        "for t in range(rewards.shape[1]):",
    ),
    Mutant(
        "GAE ends with the last value again",
        "tensors",
        "next_value = next_advantage = torch.zeros_like(rewards[:, 0])  # (B,)",
        "next_value, next_advantage = values[:, -1], torch.zeros_like(rewards[:, 0])",
    ),
    # models
    Mutant(
        "positions count pads",
        "tensors",
        "    return (mask.long().cumsum(-1) - 1).clamp(min=0)\n",
        "    return torch.arange(mask.shape[1]).expand(mask.shape)\n",
        ("models",),
    ),
    Mutant(
        "positions start at one",
        "tensors",
        "(mask.long().cumsum(-1) - 1).clamp(min=0)",
        "mask.long().cumsum(-1)",
        ("models",),
    ),
    Mutant(
        "positions not passed to the model",
        "models",
        'extra = {"position_ids": position_ids} if self.takes_positions else {}',
        "extra = {}",
    ),
    Mutant(
        "gain trained",
        "models",
        'self.register_buffer("gain", torch.tensor(float(getattr(classifier.config, "reward_gain", 1.0))))',
        'self.gain = nn.Parameter(torch.tensor(float(getattr(classifier.config, "reward_gain", 1.0))))',
        ("reward",),
    ),
    Mutant(
        "reward read one token early",
        "models",
        "last = mask.shape[1] - 1 - mask.flip(-1)",
        "last = mask.shape[1] - 2 - mask.flip(-1)",
    ),
    Mutant(
        "reward read at the last column, pad or not",
        "models",
        "mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)",
        "mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1) * 0",
    ),
    Mutant(
        "bias before the gain",
        "models",
        "return self.gain * raw + self.bias",
        "return self.gain * (raw + self.bias)",
    ),
    Mutant("value head not zero", "models", "        nn.init.zeros_(self.value_head.weight)\n", ""),
    Mutant("reward head too wide", "models", "/ (width + 1) ** 0.5", "/ width ** 0.25"),
    Mutant(
        "dropout left on",
        "runtime/pretrained",
        "            module.p = 0.0\n",
        "            pass\n",
        ("models",),
    ),
    Mutant(
        "reference shares the policy's weights",
        "models",
        "reference = copy.deepcopy(self, shared)",
        "reference = self",
    ),
    # sampling
    Mutant(
        "only the likeliest tokens sampled",
        "sampling",
        "draw(logits / temperature, u)",
        "draw((logits / temperature).where(logits >= logits.topk(3).values[:, -1:], -1e9), u)",
    ),
    Mutant(
        "tokens after a stop do not count",
        "sampling",
        "mask = torch.ones_like(responses, dtype=torch.bool)",
        "mask = (responses == 1).cumsum(-1) == 0",
    ),
    Mutant("sampling keeps gradients", "sampling", "@torch.no_grad()\ndef sample(", "def sample("),
    Mutant(
        "slice off by one in the replay",
        "sampling",
        "return policy.hidden(tokens, mask)[:, -responses.shape[1] :]",
        "return policy.hidden(tokens, mask)[:, -responses.shape[1] - 1 : -1]",
    ),
    Mutant(
        "sampled at temperature 1", "sampling", "draw(logits / temperature, u)", "draw(logits, u)"
    ),
    Mutant(
        "replayed at temperature 1",
        "sampling",
        "token_logprobs(logits, rows.responses, temperature)",
        "token_logprobs(logits, rows.responses)",
    ),
    Mutant(
        "query mask forgotten in the replay",
        "sampling",
        "mask = torch.cat([queries.mask, rollout.mask[:, :-1]], dim=1)",
        "mask = torch.ones_like(tokens, dtype=torch.bool)",
    ),
    # reward
    Mutant(
        "one query on both sides of the split",
        "reward",
        "if is_held(c.query)}",
        "if is_held(c.id)}",
    ),
    Mutant(
        "bf16 taken wherever it can be computed",
        "runtime/bf16",
        "WORTH_IT = 1.3",
        "WORTH_IT = 0.0",
        ("bf16",),
    ),
    Mutant(
        "loss of the option not chosen",
        "reward",
        "return cross_entropy(rewards, choices)",
        "return cross_entropy(-rewards, choices)",
    ),
    Mutant(
        "penalty before the gain",
        "reward",
        "return torch.where(finished, rewards, task.penalty)",
        "return torch.where(finished, rewards, model.gain * task.penalty + model.bias)",
    ),
    Mutant(
        "penalty for the finished",
        "reward",
        "torch.where(finished, rewards, task.penalty)",
        "torch.where(finished, task.penalty, rewards)",
    ),
    Mutant(
        "the first token is paid nothing",
        "reward",
        "prepend=torch.zeros_like(opinions[:, :1])",
        "prepend=opinions[:, :1]",
    ),
    Mutant(
        "an answer without an end pays the penalty with every token",
        "reward",
        "torch.where(settled & ~finished.unsqueeze(-1),",
        "torch.where(~finished.unsqueeze(-1),",
    ),
    Mutant(
        "tokens that were cut off are paid",
        "reward",
        "kept = kept & rollout.mask\n",
        "kept = rollout.mask\n",
    ),
    Mutant(
        "an option reads the end of the first one",
        "reward",
        "last = torch.where(last < q, last, moved)",
        "last = torch.where(last < q, moved, last)",
    ),
    Mutant(
        "rewards of tokens that do not count",
        "ppo",
        "return rewards + torch.where(mask, scores, 0)",
        "return rewards + scores",
    ),
    Mutant(
        "special tokens read that no labeler sees",
        "reward",
        "kept & tasks.is_text(rollout.responses, model.tokenizer)",
        "kept",
    ),
    Mutant("scores not detached", "reward", "@torch.no_grad()\ndef score(", "def score("),
    Mutant(
        "scored without cutting",
        "reward",
        "_read(model, rollout, kept & rollout.mask, micro_batch)",
        "_read(model, rollout, rollout.mask, micro_batch)",
    ),
    Mutant(
        "normalised by the sample deviation",
        "reward",
        "std = raw.std(correction=0)",
        "std = raw.std()",
    ),
    Mutant(
        "normalised without the mean",
        "reward",
        "model.bias.fill_(-raw.mean() / std)",
        "model.bias.fill_(0.0)",
    ),
    Mutant(
        "normalised on cut responses",
        "reward",
        "raw = _read(model, rollout, rollout.mask, micro_batch)",
        "raw = _read(model, rollout, tasks.truncate(task, rollout.responses, model.tokenizer)[0], micro_batch)",
    ),
    Mutant(
        "learning rate of the fit stays",
        "reward",
        'group["lr"] = config.lr * (1 - i / steps)',
        'group["lr"] = config.lr',
    ),
    Mutant(
        "accuracy of the fit counts the lowest reward",
        "reward",
        "right = (rewards.argmax(-1) == choices)",
        "right = (rewards.argmin(-1) == choices)",
    ),
    Mutant(
        "a gradient that is not a number used in the fit",
        "runtime/ranks",
        '        guards.finite("the norm of the gradients", full_tensor(norm))\n',
        "",
        ("reward",),
    ),
    Mutant(
        "labels fitted in the order given",
        "reward",
        "batch = data[run.batch_indices(len(data), size, i)]",
        "batch = data[torch.arange(i * size, (i + 1) * size) % len(data)]",
    ),
    Mutant(
        "reward model reads the suffix",
        "tasks",
        "text[i, body : body + len(row)] = is_text(torch.tensor(row), tokenizer)",
        "text[i, body:] = True",
        ("reward", "families"),
    ),
    Mutant(
        "fit forgets the first normalisation",
        "reward",
        "    run.record_settings(**about)\n",
        "    model.gain.fill_(1.0)\n",
    ),
    Mutant(
        "reward model not normalised before its fit",
        "reward",
        "    normalize(model, policy, queries, task, seed=run.seed, micro_batch=run.ranks.micro_batch)\n    lines = fit(model, data, config, run)\n",
        "    lines = fit(model, data, config, run)\n",
        ("online",),
    ),
    Mutant(
        "packed answers see each other",
        "tensors",
        "((parts.unsqueeze(-1) == seen) | (seen == 0)).tril()",
        "torch.ones_like(parts.unsqueeze(-1) == seen).tril()",
        ("reward",),
    ),
    Mutant(
        "positions run on through packed answers",
        "reward",
        "position_ids = row(positions(batch.mask.flatten(0, 1)).view(b, k, width))",
        "position_ids = positions(row(batch.mask))",
    ),
    # tasks
    Mutant(
        "prompt starts after the last start token",
        "tasks",
        "ids = ids[ids.index(start) + 1 :]",
        "ids = ids[len(ids) - ids[::-1].index(start) :]",
    ),
    Mutant("pads counted as text", "tasks", "mask[i, start:] = True", "mask[i] = True"),
    Mutant(
        "cut before the earliest token", "tasks", "(index >= task.truncate_after)", "(index >= 0)"
    ),
    Mutant(
        "cut after the earliest token only",
        "tasks",
        "(index >= task.truncate_after)",
        "(index > task.truncate_after)",
    ),
    Mutant(
        "the full stop cut off",
        "tasks",
        "return index <= first.unsqueeze(-1), finished",
        "return index < first.unsqueeze(-1), finished",
    ),
    Mutant(
        "prompt ends with its first stop",
        "tasks",
        "ids = ids[: len(ids) - ids[::-1].index(end)]",
        "ids = ids[: ids.index(end) + 1]",
    ),
    # ppo
    Mutant(
        "batches too small to whiten",
        "runtime/guards",
        "if left or rows < 8:",
        "if left:",
        ("ppo",),
    ),
    Mutant(
        "KL paid to the policy",
        "ppo",
        "-beta * kl_k1(logprobs, reference_logprobs)",
        "beta * kl_k1(logprobs, reference_logprobs)",
    ),
    Mutant(
        "k3 as the penalty",
        "ppo",
        "-beta * kl_k1(logprobs, reference_logprobs), 0)",
        "-beta * ((reference_logprobs - logprobs).expm1() + logprobs - reference_logprobs), 0)",
    ),
    Mutant(
        "score on the first token",
        "ppo",
        "    last = mask.shape[1] - 1 - mask.flip(-1).long().argmax(-1)",
        "    last = 0 * mask.flip(-1).long().argmax(-1)",
    ),
    Mutant(
        "minimum for maximum in the policy loss",
        "ppo",
        "torch.maximum(-advantages * ratio, -advantages * clipped)",
        "torch.minimum(-advantages * ratio, -advantages * clipped)",
    ),
    Mutant(
        "minimum for maximum in the value loss",
        "ppo",
        "torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)",
        "torch.minimum((values - returns) ** 2, (clipped - returns) ** 2)",
    ),
    Mutant(
        "value loss not halved",
        "ppo",
        "return 0.5 * masked_mean(torch.maximum",
        "return masked_mean(torch.maximum",
    ),
    Mutant(
        "ratio upside down",
        "ppo",
        "ratio = (logprobs - old_logprobs).exp()",
        "ratio = (old_logprobs - logprobs).exp()",
    ),
    Mutant(
        "returns after whitening",
        "ppo",
        "    returns = advantages + batch.values",
        "    returns = standardize(advantages, batch.mask) + batch.values",
    ),
    Mutant(
        "returns without the values",
        "ppo",
        "returns = advantages + batch.values",
        "returns = advantages",
    ),
    Mutant("rewards never whitened", "ppo", "    if config.whiten_rewards:\n", "    if False:\n"),
    Mutant(
        "approximate KL not halved",
        "ppo",
        "0.5 * masked_mean(log_ratio**2, mask)",
        "masked_mean(log_ratio**2, mask)",
    ),
    Mutant(
        "approximate KL not squared",
        "ppo",
        "masked_mean(log_ratio**2, mask)",
        "masked_mean(log_ratio, mask)",
    ),
    Mutant(
        "clip fraction of the likelier alone",
        "ppo",
        "(log_ratio.exp() - 1).abs().gt(config.cliprange)",
        "(log_ratio.exp() - 1).gt(config.cliprange)",
    ),
    Mutant(
        "clip fraction of the log ratio",
        "ppo",
        "(log_ratio.exp() - 1).abs().gt(config.cliprange)",
        "log_ratio.abs().gt(config.cliprange)",
    ),
    Mutant(
        "explained variance the wrong way round",
        "ppo",
        "explained_variance(batch.values, returns, batch.mask)",
        "explained_variance(returns, batch.values, batch.mask)",
    ),
    Mutant(
        "explained variance of whitened advantages",
        "ppo",
        "explained_variance(batch.values, returns, batch.mask)",
        "explained_variance(batch.values, advantages + batch.values, batch.mask)",
    ),
    Mutant(
        "only the last update logged",
        "ppo",
        "torch.stack([stats[name] for stats in history]).sum()",
        "torch.stack([stats[name] for stats in history])[-1]",
    ),
    Mutant(
        "variance logged as deviation",
        "ppo",
        '"score_std": scores.std().item()',
        '"score_std": scores.var().item()',
    ),
    Mutant(
        "policy loss logged as value loss",
        "ppo",
        '"value_loss": vf.detach(),',
        '"value_loss": pg.detach(),',
    ),
    Mutant(
        "reference not detached",
        "ppo",
        "    with torch.no_grad():\n",
        "    with torch.enable_grad():\n",
    ),
    Mutant(
        "value weight forgotten",
        "ppo",
        "return pg + config.value_coef * vf, {",
        "return pg + vf, {",
    ),
    Mutant(
        "families: no begin token",
        "tasks",
        "    first = first_ids(tokenizer)\n    before",
        "    first = []\n    before",
        ("families",),
    ),
    Mutant(
        "families: begin tokens inside a text",
        "tasks",
        "tokenizer(text, add_special_tokens=False, verbose=False)",
        "tokenizer(text, verbose=False)",
        ("families",),
    ),
    Mutant(
        "families: LoRA lost when saved",
        "runtime/pretrained",
        ' + module.get_delta_weight("default")',
        "",
        ("families",),
    ),
    Mutant(
        "families: LoRA begins anywhere",
        "runtime/pretrained",
        "        torch.manual_seed(seed)\n",
        "",
        ("families",),
    ),
    Mutant(
        "families: logits in bf16",
        "models",
        "with torch.autocast(hidden.device.type, enabled=False):\n            return self.lm",
        "with self.autocast():\n            return self.lm",
        ("families",),
    ),
    Mutant(
        "ranks: parts of a batch not weighted",
        "ppo",
        "(weight * loss).backward()",
        "loss.backward()",
        ("ranks",),
    ),
    Mutant(
        "ranks: gradients of others forgotten",
        "runtime/ranks",
        "        self.all_reduce_gradients(model)\n",
        "",
        ("ranks",),
    ),
    Mutant(
        "ranks: each shuffles for itself",
        "ppo",
        "batch = rollout[ranks.broadcast(rows)]",
        "batch = rollout[rows]",
        ("ranks",),
    ),
    Mutant(
        "ranks: all sample with one seed",
        "runtime/runs",
        'self.generator.manual_seed(seeds.derive(self.seed, "rank", self.ranks.rank))',
        'self.generator.manual_seed(seeds.derive(self.seed, "rank"))',
        ("ranks",),
    ),
    Mutant(
        "ranks: another micro-batch on each accepted",
        "runtime/runs",
        '{"micro_batch": self.ranks.micro_batch, "checkpoint_every"',
        '{"checkpoint_every"',
        ("ranks",),
    ),
    Mutant(
        "ranks: settings not compared",
        "runtime/ranks",
        "            if other == seen[0]:\n",
        "            if True:\n",
        ("ranks",),
    ),
    Mutant(
        "ranks: a loss that is not a number noticed by one alone",
        "runtime/ranks",
        "            torch.distributed.all_reduce(tensor)\n",
        "            guards.finite('a number', tensor)\n            torch.distributed.all_reduce(tensor)\n",
        ("ranks",),
    ),
    Mutant(
        "ranks: every error called a lost rank",
        "runtime/ranks",
        "or not is_lost_rank(error):",
        "or False:",
        ("ranks",),
    ),
    Mutant(
        "ranks: mismatched sizes called a lost rank",
        "runtime/ranks",
        "(Connection (closed|reset|refused)|",
        "(op.preamble|Connection (closed|reset|refused)|",
        ("ranks",),
    ),
    Mutant(
        "ranks: all answer the same rows",
        "runtime/ranks",
        "return slice(self.rank * size, (self.rank + 1) * size)",
        "return slice(0, size)",
        ("ranks",),
    ),
    Mutant(
        "ranks: only the first knows what went wrong",
        "runtime/ranks",
        "        if result[1] is not None:\n",
        "        if self.is_first and result[1] is not None:\n",
        ("ranks",),
    ),
    Mutant(
        "ranks: the first rank's random numbers restored everywhere",
        "runtime/runs",
        "self.generator.set_state(saved[self.ranks.rank].clone())",
        "self.generator.set_state(saved[0].clone())",
        ("ranks",),
    ),
    Mutant(
        "every epoch the same order",
        "ppo",
        "    for _ in range(config.epochs):\n        order = torch.randperm(prompts, generator=generator, device=device)  # (P,)\n",
        "    order = torch.randperm(prompts, generator=generator, device=device)\n    for _ in range(config.epochs):\n",
    ),
    Mutant("gradients pile up", "ppo", "        optimizer.zero_grad()\n", ""),
    Mutant(
        "gradients clipped",
        "runtime/ranks",
        "limit = math.inf if max_grad_norm is None else max_grad_norm",
        "limit = 1.0",
        ("ppo",),
    ),
    Mutant(
        "gradients never clipped",
        "runtime/ranks",
        "limit = math.inf if max_grad_norm is None else max_grad_norm",
        "limit = math.inf",
        ("ppo",),
    ),
    Mutant(
        "a gradient that is not a number used",
        "runtime/ranks",
        '        guards.finite("the norm of the gradients", full_tensor(norm))\n',
        "",
        ("ppo",),
    ),
    Mutant(
        "a scorer's columns taken for rows",
        "ppo",
        "scores = guards.one_each(score(rollout), len(rollout), policy.device, length)",
        "scores = score(rollout)",
    ),
    Mutant(
        "prompts of another run mixed in",
        "ppo",
        '"task": task, **drawn,',
        '"task": task,',
        ("runs",),
    ),
    Mutant(
        "labels of another run mixed in",
        "reward",
        '{"reward": config, **labels, ',
        '{"reward": config, ',
    ),
    Mutant(
        "reward model of another run mixed in",
        "ppo",
        "reward_model=scored_by",
        'reward_model=""',
        ("runs",),
    ),
    Mutant(
        "Adam of PyTorch unasked",
        "runtime/optim",
        "(TensorFlowAdam if tensorflow else PyTorchAdam)",
        "PyTorchAdam",
        ("ppo",),
    ),
    Mutant(
        "an entropy bonus",
        "ppo",
        "return pg + config.value_coef * vf, {",
        "return pg + config.value_coef * vf + 0.01 * masked_mean(now.logprobs, mask), {",
    ),
    Mutant("score that is not a number used", "ppo", '    guards.finite("a score", scores)\n', ""),
    Mutant(
        "reference follows the policy",
        "ppo",
        "reference = reference or policy.frozen_copy()",
        "reference = reference or policy",
    ),
    Mutant("controller turned round", "ppo", "kl / self.target - 1", "1 - kl / self.target"),
    Mutant(
        "controller not clipped",
        "ppo",
        "error = max(-0.2, min(0.2, kl / self.target - 1))",
        "error = kl / self.target - 1",
    ),
    Mutant(
        "controller ignores the batch",
        "ppo",
        "self.beta *= 1 + error * episodes / self.horizon",
        "self.beta *= 1 + error / self.horizon",
    ),
    Mutant(
        "KL averaged over tokens",
        "ppo",
        "kl_k1(rollout.logprobs, reference_logprobs), 0).sum(-1).mean()",
        "kl_k1(rollout.logprobs, reference_logprobs), 0).mean()",
    ),
    Mutant(
        "learning rate stays", "ppo", "lr = config.lr * (1 - i / config.steps)", "lr = config.lr"
    ),
    # a taste from few clicks
    Mutant(
        "cannot tell is a choice of the first option",
        "posterior",
        "each[-1 if choice is None else choice]",
        "each[choice or 0]",
    ),
    Mutant(
        "the prior forgotten in what is maximised",
        "posterior",
        "(targets * logp).sum() - dual @ rewards / 2",
        "(targets * logp).sum()",
    ),
    Mutant(
        "the determinant counted twice in the evidence",
        "posterior",
        "(now - chol.diagonal().log().sum()).item()",
        "(now - 2 * chol.diagonal().log().sum()).item()",
    ),
    Mutant(
        "ties choose the prior",
        "posterior",
        "found.append((mode.evidence - given, mode, prior))",
        "found.append((mode.evidence, mode, prior))",
    ),
    Mutant(
        "the prior's own covariance for the posterior's",
        "posterior",
        "covariance = covariance - v.T @ v",
        "covariance = covariance - 0 * v.T @ v",
    ),
    Mutant(
        "a new click's answers strangers to the earlier ones",
        "posterior",
        "side = part @ part[at:].T  # (n, m)",
        "side = torch.cat([0 * part[:at], part[at:]]) @ part[at:].T",
    ),
    Mutant(
        "the curvature of the start for that of the mode",
        "posterior",
        "if fresh and gain <= 1e-7:",
        "if gain <= 1e-7:",
    ),
    Mutant(
        "clicks that go on change those they began with",
        "posterior",
        "self.grams = grams",
        "self.grams[:] = grams",
        ("clicks",),
    ),
    Mutant(
        "contexts AT a token in place of before it",
        "features",
        "torch.cat([query, last[:, :, :-1]], 2)",
        "last",
        ("features", "clicks"),
    ),
    Mutant(
        "pads averaged into the states",
        "features",
        "torch.cat([(h * weights).sum(2) / total for h in layers], -1)",
        "torch.cat([h.mean(2) for h in layers], -1)",
    ),
    Mutant(
        "frequent words count as much as rare ones",
        "features",
        "torch.log(self.answers / (1.0 + self.holders)).clamp(min=0)",
        "torch.ones_like(self.holders)",
    ),
    Mutant(
        "features move with the policy that trains",
        "features",
        "policy.frozen_copy() if trains else policy, task",
        "policy, task",
    ),
    Mutant(
        "clicks predicted after they were learned",
        "clicks",
        "            guesses.append(clicks.guess(part[0], x[0]))\n        clicks.add(part, x)\n",
        "            clicks.add(part, x)\n            clicks.fit()\n            guesses.append(clicks.guess(part[0], x[0]))\n        else:\n            clicks.add(part, x)\n",
    ),
    Mutant(
        "a taste never punishes an answer without an end",
        "clicks",
        "return torch.where(finished, rewards.to(finished.device), task.penalty)",
        "return rewards.to(finished.device)",
    ),
    Mutant(
        "a lower bound that adds",
        "clicks",
        "self._reward(x) - (lower_bound",
        "self._reward(x) + (lower_bound",
    ),
    Mutant(
        "a rank without bounds",
        "clicks",
        "rewards = self.rank(rewards)",
        "rewards = math.sqrt(12) * rewards",
    ),
    Mutant(
        "ranks among the wrong end",
        "clicks",
        "math.sqrt(12) * (share - 0.5)",
        "math.sqrt(12) * (0.5 - share)",
    ),
    Mutant(
        "asked again",
        "clicks",
        "c.id not in asked and not c.has_equal_options]\n    if not open_",
        "not c.has_equal_options]\n    if not open_",
    ),
    Mutant(
        "only options that hardly differ are asked",
        "clicks",
        "missed[differ < differ.quantile(0.2)] = -1",
        "missed[differ > differ.quantile(0.2)] = -1",
    ),
    Mutant(
        "a click after others predicted as the first one",
        "clicks",
        "            guesses.append(clicks.guess(part[0], x[0]))\n",
        "            clicks.mode = None\n            guesses.append(clicks.guess(part[0], x[0]))\n",
    ),
    Mutant(
        "a prior stays that was chosen with what was taken back",
        "clicks",
        "    if moved or len(before.rows)",
        "    if False and len(before.rows)",
    ),
    Mutant(
        "the first option is the guess before there is one",
        "posterior",
        "return likeliest[self.choice].item() / likeliest.sum().item()",
        "return float(int(self.probabilities.argmax()) == self.choice)",
        ("clicks",),
    ),
    Mutant(
        "beliefs about words that everything holds",
        "beliefs",
        "most.get(w, COMMON * len(texts))",
        "most.get(w, len(texts))",
    ),
    Mutant(
        "a belief that is less than its uncertainty is said",
        "beliefs",
        "abs(effect) - deviation) <= 0:",
        "abs(effect) - deviation) <= -1:",
    ),
    Mutant(
        "what weighs most is looked for among the first traits only",
        "beliefs",
        "if weight >= bound]",
        "if bound]",
    ),
    Mutant(
        "what was expected said by the taste that knows the answer",
        "course/mirror",
        "p = guesses[-1].probabilities",
        "p = taste.probabilities([item])[0]",
    ),
    Mutant(
        "it writes the worst of its samples",
        "course/mirror",
        "taste.rewards(two).argmax(-1)",
        "taste.rewards(two).argmin(-1)",
    ),
    # optim, evaluation, labelers, runs
    Mutant(
        "PyTorch's eps",
        "runtime/optim",
        ' / math.sqrt(1 - group["betas"][1] ** group["steps"])',
        "",
    ),
    Mutant("eps of other optimizers", "runtime/optim", "EPS = 1e-5", "EPS = 1e-8"),
    Mutant(
        "weight decay",
        "runtime/optim",
        "super().__init__(params, lr=lr, eps=eps, betas=betas)",
        "super().__init__(params, lr=lr, eps=eps, betas=betas, weight_decay=0.1)",
    ),
    Mutant(
        "only the newest labels",
        "online",
        "            asked = rounds.so_far(due)\n",
        "            asked = rounds.comparisons[due]\n",
    ),
    Mutant(
        "online reward model starts from the policy",
        "online",
        "retrain(reference, task,",
        "retrain(policy, task,",
    ),
    Mutant(
        "later rounds sampled from the base",
        "online",
        "rounds.asked(collect(policy, task",
        "rounds.asked(collect(reference, task",
    ),
    Mutant(
        "rounds ask in the order of the pool",
        "online",
        "torch.randperm(len(pool), generator=generator) for",
        "torch.arange(len(pool)) for",
    ),
    Mutant(
        "options that read the same collected",
        "labelers",
        "if not comparison.has_equal_options]",
        "if len(set(comparison.options)) > 1]",
        ("labelers", "online"),
    ),
    Mutant(
        "rounds ask in one order", "online", '"prompts of round", round)', '"prompts of round")'
    ),
    Mutant(
        "rounds sample with one seed", "online", '"samples of round", round)', '"samples of round")'
    ),
    Mutant(
        "heads of all rounds alike",
        "online",
        '"reward model of round", round)',
        '"reward model of round")',
    ),
    Mutant(
        "a resumed run asks for the labels of its round again",
        "online",
        "        if due not in rounds.labels:\n",
        "        if True:\n",
    ),
    Mutant(
        "labels of a round not kept",
        "online",
        "        self.labels[round] = labels\n        self._write(round)\n",
        "        self.labels[round] = labels\n",
    ),
    Mutant(
        "questions not kept before they are answered",
        "online",
        "        self._write(len(self.comparisons) - 1)\n",
        "",
    ),
    Mutant("rounds and reward settings not recorded", "online", "scored_by=learned,", ""),
    Mutant(
        "settings of a run that waits for labels not held",
        "runtime/runs",
        ' or (self.folder / "rounds").exists()',
        "",
        ("online",),
    ),
    Mutant(
        "a finished run without its reward model",
        "online",
        "    before_step(ppo_config.steps - 1)",
        "    models.append(None)",
    ),
    Mutant(
        "one more question in every round but the first",
        "online",
        "(config.labels(round - 1) if round else 0)",
        "(config.labels(round - 1) - 1 if round else 0)",
    ),
    Mutant(
        "rounds evenly spaced in steps",
        "online",
        "(1 - (1 - k / self.rounds) ** 0.5)",
        "k / self.rounds",
    ),
    Mutant(
        "others' labels learned from",
        "labels/people",
        "labels = [x for x in self.store.labels(labeler=self.labeler)",
        "labels = [x for x in self.store.labels()",
        ("online",),
    ),
    Mutant(
        "others' answers taken for hers",
        "labels/people",
        "self.store.events(labeler=self.labeler, standing=True)",
        "self.store.events(standing=True)",
        ("online",),
    ),
    Mutant(
        "answers taken back still count",
        "labels/people",
        "self.store.events(labeler=self.labeler, standing=True)",
        "self.store.events(labeler=self.labeler)",
        ("online",),
    ),
    Mutant(
        "others' questions taken for the run's own",
        "labels/people",
        " if x.comparison_id in wanted]",
        "]",
        ("online",),
    ),
    Mutant(
        "micro-batches forgotten in the online fit",
        "online",
        ", micro_batch=run.ranks.micro_batch)",
        ")",
    ),
    Mutant(
        "comparisons sampled at temperature 1",
        "labelers",
        "task.response_length, task.temperature, generator, answers=options",
        "task.response_length, 1.0, generator, answers=options",
    ),
    Mutant(
        "the optimum of the opposite taste",
        "evaluation",
        "weights = (scores / beta).softmax(-1)",
        "weights = (-scores / beta).softmax(-1)",
    ),
    Mutant(
        "best of n: the worst kept",
        "alternatives",
        "best = scores.view(-1, n).argmax(-1)",
        "best = scores.view(-1, n).argmin(-1)",
    ),
    Mutant(
        "best of n: answers taken from another prompt's rows",
        "alternatives",
        "rows = best + n * torch.arange",
        "rows = best + torch.arange",
    ),
    Mutant(
        "best of n from one pool: ranks off by one",
        "alternatives",
        "math.comb(i, n - 1) / math.comb(total, n)",
        "math.comb(i + 1, n - 1) / math.comb(total, n)",
    ),
    Mutant(
        "policy gradient without the minus sign",
        "alternatives",
        "return -(advantages.detach()",
        "return (advantages.detach()",
    ),
    Mutant(
        "an answer is its own rival",
        "alternatives",
        "answers / (answers - 1) * (groups - groups.mean(1, keepdim=True))",
        "groups - groups.mean(1, keepdim=True)",
    ),
    Mutant(
        "equal scores divided by nothing",
        "alternatives",
        "torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0)",
        "centred / deviation",
    ),
    Mutant(
        "rloo pays for nearness to the reference",
        "alternatives",
        "leave_one_out(scores - controller.beta * kl,",
        "leave_one_out(scores + controller.beta * kl,",
    ),
    Mutant(
        "k3 of the policy from before",
        "alternatives",
        "masked_mean(kl_k3(now, theirs[part]), mask)",
        "masked_mean(kl_k3(old, theirs[part]), mask)",
    ),
    Mutant(
        "dpo forgets its reference",
        "dpo",
        "choice_loss(beta * (logprobs - reference_logprobs), choices)",
        "choice_loss(beta * logprobs, choices)",
    ),
    Mutant(
        "pads of an option counted",
        "dpo",
        "torch.where(rollout.mask, found, 0).sum(-1)",
        "found.sum(-1)",
    ),
    Mutant(
        "options dealt to their neighbours",
        "dpo",
        "rows.unsqueeze(1) * k + torch.arange(k, device=rows.device)",
        "rows.unsqueeze(1) + len(self) * torch.arange(k, device=rows.device)",
    ),
    Mutant(
        "nats taken for bits",
        "efficiency",
        "return -torch.special.xlogy(p, p).sum(-1) / math.log(2)",
        "return -torch.special.xlogy(p, p).sum(-1)",
    ),
    Mutant(
        "noise taken for news",
        "efficiency",
        "return entropy_bits(mixed) - entropy_bits(chances) @ weights",
        "return entropy_bits(mixed)",
    ),
    Mutant(
        "the worst scale taken for the best",
        "efficiency",
        "_loss_bits(s * rewards[other], chances[other])",
        "-_loss_bits(s * rewards[other], chances[other])",
    ),
    Mutant(
        "a straight line on an axis that multiplies",
        "efficiency",
        "return n * (more / n) ** ((goal - low) / (high - low))",
        "return n + (more - n) * ((goal - low) / (high - low))",
    ),
    Mutant(
        "the first crossing taken for the last",
        "efficiency",
        "last = max(i for i, x in enumerate(ahead) if x <= 0)",
        "last = min(i for i, x in enumerate(ahead) if x <= 0)",
    ),
    Mutant(
        "labelers who are never wrong",
        "summary_labelers",
        "answers = ((fact.true, 1 - error), (not fact.true, error))",
        "answers = ((fact.true, 1.0), (not fact.true, 0.0))",
    ),
    Mutant(
        "density not squared",
        "copying",
        "sum(f.length**2 for f in taken) / len(own)",
        "sum(f.length for f in taken) / len(own)",
    ),
    Mutant(
        "the first stretch taken for the longest",
        "copying",
        "if length > best.length:",
        "if not best.length:",
    ),
    Mutant(
        "novel where the source has it",
        "copying",
        "sum(gram not in theirs for gram in own)",
        "sum(gram in theirs for gram in own)",
    ),
    Mutant(
        "optimum at beta times the reward",
        "alternatives",
        "reference_logprobs + scores / beta",
        "reference_logprobs + scores * beta",
    ),
    Mutant(
        "KL of the optimum without the number of samples",
        "evaluation",
        "weights * scores.shape[1]",
        "weights",
    ),
    Mutant(
        "sides never uncovered",
        "evaluation",
        "float((chosen[comparison.id] == 0) == is_zero)",
        "float(chosen[comparison.id] == 0)",
    ),
    Mutant(
        "negation ignored",
        "labelers",
        "sign = -1.0 if i - last_negation <= 3 else 1.0",
        "sign = 1.0",
    ),
    Mutant(
        "noise of the labeler upside down",
        "labelers",
        "math.exp((u - best) / temperature)",
        "math.exp((best - u) / temperature)",
    ),
    Mutant(
        "every fact believed at sight",
        "summary_labelers",
        "return asked.at_sight and within",
        "return asked.at_sight",
    ),
    Mutant(
        "effort spent on each fact anew",
        "summary_labelers",
        "asked.effort / max(1, len(look_up))",
        "asked.effort",
    ),
    Mutant(
        "whoever looks a fact up is right",
        "summary_labelers",
        "fact.true if draw.random() >= error else not fact.true",
        "fact.true",
    ),
    Mutant(
        "a short turn of phrase taken for a copy",
        "summary_labelers",
        "if f.length >= min(least, len(own))",
        "if f.length",
    ),
    Mutant(
        "pads learned from",
        "supervised",
        "return -masked_mean(sampling.replay(policy, batch).logprobs, batch.mask)",
        "return -sampling.replay(policy, batch).logprobs.mean()",
    ),
    Mutant(
        "an answer without its end",
        "supervised",
        "wanted = tasks.text_ids(tokenizer, answer) + end",
        "wanted = tasks.text_ids(tokenizer, answer)",
    ),
    Mutant(
        "prompts in the same order each pass",
        "runtime/runs",
        'seeds.generator(self.seed, "pass", number)',
        'seeds.generator(self.seed, "pass")',
    ),
    Mutant(
        "prompts in the same order for each seed",
        "runtime/runs",
        'seeds.generator(self.seed, "pass", number)',
        'seeds.generator(0, "pass", number)',
    ),
    Mutant(
        "seeds are sums again",
        "runtime/seeds",
        "return int.from_bytes(digest[:8]",
        "return seed * 100_003 + number or int.from_bytes(digest[:8]",
        ("runs",),
    ),
    Mutant(
        "seeds of all purposes alike",
        "runtime/seeds",
        'f"{seed} {purpose} {number}"',
        'f"{seed} {number}"',
        ("runs",),
    ),
    Mutant(
        "moments of the optimizer not restored",
        "runtime/checkpoints",
        '{"state": moments, "param_groups"',
        '{"state": {}, "param_groups"',
        ("runs",),
    ),
    Mutant(
        "beta not restored",
        "runtime/runs",
        '            controller.beta = state["beta"]\n',
        "            pass\n",
    ),
    Mutant(
        "metrics of lost steps kept",
        "runtime/runs",
        '            os.truncate(self.folder / "metrics.jsonl", state["metrics_bytes"])\n',
        "            pass\n",
    ),
    Mutant(
        "metrics of a run that starts again kept in memory",
        "runtime/runs",
        "            self._lines = []\n",
        "",
    ),
    Mutant(
        "metrics of a run that starts again kept on disk",
        "runtime/runs",
        '(self.folder / "metrics.jsonl").unlink(missing_ok=True)',
        "pass",
    ),
    Mutant(
        "a run used again continues its random numbers",
        "runtime/runs",
        '            self.generator.manual_seed(seeds.derive(self.seed, "rank", self.ranks.rank))\n',
        "",
    ),
    Mutant(
        "metrics shorter than the checkpoint knows accepted",
        "runtime/checkpoints",
        "    if found < size:\n",
        "    if False:\n",
        ("runs",),
    ),
    Mutant(
        "metrics of another step accepted",
        "runtime/checkpoints",
        'if lines and lines[-1].get("step") != done - 1:',
        "if False:",
        ("runs",),
    ),
    Mutant(
        "half an optimizer accepted",
        "runtime/checkpoints",
        "    if found not in (0, wanted):\n",
        "    if False:\n",
        ("runs",),
    ),
    Mutant(
        "NaN written into the metrics",
        "runtime/files",
        "v if math.isfinite(v) else None for",
        "v for",
        ("runs",),
    ),
    Mutant(
        "null read back as nothing",
        "runtime/files",
        "math.nan if v is None else v for",
        "v for",
        ("runs",),
    ),
    Mutant(
        "old checkpoint removed before the new one is in place",
        "runtime/files",
        "        path.rename(old)\n",
        "        shutil.rmtree(path)\n",
        ("runs",),
    ),
    Mutant(
        "checkpoint written in place",
        "runtime/files",
        "        yield new\n",
        "        shutil.rmtree(path, ignore_errors=True)\n        yield new\n",
        ("runs",),
    ),
    Mutant(
        "settings of another run mixed in",
        "runtime/runs",
        'if self.begun and "settings" in described and before != now:',
        "if False:",
    ),
    Mutant(
        "seed of another run mixed in",
        "runtime/runs",
        'now = {"seed": self.seed} | mine',
        'now = {"seed": described["seed"]} | mine',
    ),
    Mutant(
        "description written in place",
        "runtime/files",
        "replacing(path) as new:\n        write_json(new, content)\n",
        "memoryview(b''):\n        write_json(path, content)\n",
        ("runs",),
    ),
    Mutant(
        "generator not restored",
        "runtime/runs",
        "            self.generator.set_state(saved[self.ranks.rank].clone())\n",
        "            pass\n",
    ),
    # labels.exchange
    Mutant(
        "a repeated prompt left in the replies",
        "labels/exchange/dialogue",
        "elif not (repeated and _repeats(prompt, chosen) and _repeats(prompt, rejected)):",
        "elif True:",
        ("exchange_pairs",),
    ),
    Mutant(
        "a prompt taken out of one reply of two",
        "labels/exchange/dialogue",
        "and _repeats(prompt, chosen) and _repeats(prompt, rejected)):",
        "and _repeats(prompt, chosen)):",
        ("exchange_pairs",),
    ),
    Mutant(
        "a prompt that ends inside a word",
        "labels/exchange/dialogue",
        "    for end in range(same, 0, -1):\n        if all(_at_gap(x, end) for x in (a, b)):\n",
        "    for end in range(same, 0, -1):\n        if end:\n",
        ("exchange_pairs",),
    ),
    Mutant(
        "the space left to the prompt",
        "labels/exchange/dialogue",
        "    if x[end - 1].isspace():\n        return False\n    return end == len(x) or",
        "    if x[end - 1].isspace():\n        return True\n    return end == len(x) or",
        ("exchange_pairs",),
    ),
    Mutant(
        "a dialogue cut after the last human",
        "labels/exchange/dialogue",
        "return next((m.end() for m in reversed(found) if m.lastgroup), found[-1].end())",
        "return found[-1].end()",
        ("exchange_pairs",),
    ),
    Mutant(
        "a dialogue cut after the first answer",
        "labels/exchange/dialogue",
        "for m in reversed(found) if",
        "for m in found if",
        ("exchange_pairs",),
    ),
    Mutant(
        "an emoji torn at its joiner",
        "labels/exchange/dialogue",
        "        or _JOINER in (before, after)\n",
        "",
        ("exchange_pairs",),
    ),
    Mutant(
        "an accent torn from its letter",
        "labels/exchange/dialogue",
        'unicodedata.category(after).startswith("M")',
        "False",
        ("exchange_pairs",),
    ),
    Mutant(
        "a flag torn in two",
        "labels/exchange/dialogue",
        "flags % 2 == 1)",
        "False)",
        ("exchange_pairs",),
    ),
    Mutant(
        "messages compared after a shared answer",
        "labels/exchange/dialogue",
        "        cut = next(both, end)\n",
        "        cut = end\n",
        ("exchange_pairs",),
    ),
    Mutant(
        "roles left out of a longer dialogue",
        "labels/exchange/dialogue",
        'f"{role}: {content}" for',
        "content for",
        ("exchange_pairs",),
    ),
    Mutant(
        "the prompt derived beside a question",
        "labels/exchange/pairs",
        "    if prompt is None:\n        _check_names(record)\n",
        "",
        ("exchange_pairs", "exchange"),
    ),
    Mutant(
        "our own pairs stripped of what they repeat by chance",
        "labels/exchange/pairs",
        'not in ("false", "0")',
        '!= ""',
        ("exchange_pairs", "exchange"),
    ),
    Mutant(
        "the chosen reply always first",
        "labels/exchange/pairs",
        "digest()[0] % 2 == 1",
        "digest()[0] < 0",
        ("exchange_pairs", "exchange"),
    ),
    Mutant(
        "pairs of equal texts written",
        "labels/exchange/pairs",
        "        if not same_text(other, chosen)\n",
        "        if other != chosen\n",
        ("exchange_pairs", "exchange"),
    ),
    Mutant(
        "choices counted from 1 taken for faults",
        "labels/exchange/reading",
        "if self.last and self.least > 0:",
        "if False:",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "one choice too high refuses the whole file",
        "labels/exchange/reading",
        "if self.last and self.least > 0:",
        "if self.last:",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "a file of nothing read as no records",
        "labels/exchange/reading",
        "        if not self.labels:\n            raise Refused(f",
        "        if False:\n            raise Refused(f",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "a refused file skipped as a fault",
        "labels/exchange/reading",
        '            except Refused as error:\n                raise Refused(f"{self.name}: {error}") from error\n',
        "",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "equal texts kept",
        "labels/exchange/reading",
        "        if comparison.has_equal_options:\n",
        "        if False:\n",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "records of other tasks read as labels of this one",
        "labels/exchange/reading",
        'if self.task and task not in ("", self.task):',
        "if False:",
        ("exchange",),
    ),
    Mutant(
        "what does not fit kept",
        "labels/exchange/reading",
        "            self.fits(comparison)\n",
        "            pass\n",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "labeler 0 taken for no name",
        "labels/exchange/reading",
        '    if _is_missing(value):\n        return ""',
        '    if not value:\n        return ""',
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "milliseconds taken for seconds",
        "labels/exchange/reading",
        "return seconds / 1_000 if seconds > _MILLISECONDS else seconds",
        "return seconds",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "ISO dates in the machine's own zone",
        "labels/exchange/reading",
        "value.replace(tzinfo=UTC)",
        "value",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "an empty field made a label a person's",
        "labels/exchange/reading",
        "    if _is_missing(value):\n        return default\n",
        "    if _is_missing(value):\n        return False\n",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "labels without a name of one person",
        "labels/exchange/reading",
        "while key in self.labels and not named:",
        "while False:",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "options sorted as text",
        "labels/exchange/tables",
        "    names.sort(key=lambda n: int(n[7:]))\n",
        "    names.sort()\n",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "options counted from 1",
        "labels/exchange/tables",
        'if "option_1" in names and "option_0" not in names:',
        "if False:",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "formulas written as they are",
        "labels/exchange/tables",
        'return f"\'{cell}" if text and _FORMULA.match(cell) else cell',
        "return cell",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "an apostrophe before a formula kept",
        "labels/exchange/tables",
        "return cell[1:] if text and cell.startswith",
        "return cell if text and cell.startswith",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "an apostrophe of others taken off",
        "labels/exchange/tables",
        " if _count(row) else row",
        " if row else row",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "the csv module's own limit",
        "labels/exchange/tables",
        "    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))\n",
        "",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "commas only",
        "labels/exchange/tables",
        'best = max(",;\\t|", key=sense)',
        'best = ","',
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "empty options at the end dropped",
        "labels/exchange/tables",
        "(len(names) > count if count else not row[names[-1]])",
        "(not row[names[-1]])",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "samples sorted as text",
        "labels/exchange/openai",
        "    names.sort(key=lambda name: int(name[6:]))",
        "    names.sort()",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "padding decoded",
        "labels/exchange/openai",
        "[t for t in row if t != OPENAI_PAD] for row in rows",
        "list(row) for row in rows",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "compressed files not unpacked",
        "labels/exchange/files",
        "if start.startswith(magic)), open)",
        "if start == magic), open)",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "a byte order mark read as text",
        "labels/exchange/files",
        'b"\\xef\\xbb\\xbf": "utf-8-sig"',
        'b"\\xef\\xbb\\xbf": "utf-8"',
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "an array read as lines",
        "labels/exchange/files",
        "        if isinstance(value, list):\n",
        "        if False:\n",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "an empty file read",
        "labels/exchange/files",
        "            if not head.strip():\n",
        "            if False:\n",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "a half-written file left in place",
        "labels/exchange/files",
        'partial_file = path.with_name(f".{path.name}.{os.getpid()}.partial")',
        "partial_file = path",
        ("exchange", "exchange_formats"),
    ),
    Mutant(
        "formats of others not named",
        "labels/exchange/foreign",
        "        if shape.fits(record):\n",
        "        if False:\n",
        ("exchange_formats",),
    ),
    Mutant(
        "SHP's choices turned round",
        "labels/exchange/foreign",
        '"choice": 1 - int(r["labels"])',
        '"choice": int(r["labels"])',
        ("exchange_formats",),
    ),
    Mutant(
        "first and second turned round",
        "labels/exchange/pairwise",
        'return query, options, _SIDES.index(record["choice"])',
        'return query, options, 1 - _SIDES.index(record["choice"])',
        ("exchange", "exchange_formats"),
    ),
    # the label store, hand-ins, sessions
    Mutant(
        "an undo forgets to remove the answer",
        "labels/store/history",
        "    db.execute(sa.delete(answers).where(answers.c.event_id == answer.event_id))\n",
        "",
        ("store",),
    ),
    Mutant(
        "an undo is not recorded",
        "labels/store/history",
        "    db.execute(sa.insert(events).values(undo._replace(undoes=answer.event_id).row()))\n",
        "",
        ("store",),
    ),
    Mutant(
        "an undo does not say what it takes back",
        "labels/store/history",
        "undo._replace(undoes=answer.event_id).row()",
        "undo.row()",
        ("store",),
    ),
    Mutant(
        "an undo leaves the counters",
        "labels/store/history",
        "answer.kind, answer.repeat, -1)",
        "answer.kind, answer.repeat, 0)",
        ("store",),
    ),
    Mutant(
        "a second answer is taken",
        "labels/store/history",
        "event.kind in ANSWERS and db.scalar(sa.select(a.event_id).where(same)) is not None",
        "False",
        ("store",),
    ),
    Mutant(
        "a flag counts as an answer",
        "labels/store/history",
        "    if event.kind in ANSWERS:\n        db.execute",
        "    if True:\n        db.execute",
        ("store",),
    ),
    Mutant(
        "an undone item is not open again",
        "labels/store/history",
        'changes["open_at"] = min(open_at, item.position)',
        "pass",
        ("store",),
    ),
    Mutant(
        "a repeat counts as a label done",
        "labels/store/history",
        'name = "repeats" if repeat else "skipped" if',
        'name = "skipped" if',
        ("store",),
    ),
    Mutant(
        "comparisons added twice are counted twice",
        "labels/store/history",
        "            if i not in known:\n",
        "            if True:\n",
        ("store",),
    ),
    Mutant(
        "repeats are read as labels",
        "labels/store/queries",
        "query.where(c.repeat if repeats else sa.not_(c.repeat))",
        "query.where(sa.true())",
        ("store",),
    ),
    Mutant(
        "gold leaks into labels",
        "labels/store/queries",
        "    if not gold:\n",
        "    if False:\n",
        ("store",),
    ),
    Mutant(
        "labels of another task are read",
        "labels/store/queries",
        "        query = query.where(c.task == task)\n    if labeler",
        "        pass\n    if labeler",
        ("store",),
    ),
    Mutant(
        "undo takes the oldest answer back",
        "labels/store/queries",
        "order_by(a.event_id.desc())\n    query",
        "order_by(a.event_id)\n    query",
        ("store",),
    ),
    Mutant(
        "undo of one task takes back another",
        "labels/store/queries",
        "query = query if task is None else query.where(a.task == task)\n    with",
        "with",
        ("store",),
    ),
    Mutant(
        "a repeat hides an open item",
        "labels/store/queries",
        "a.labeler == labeler, a.comparison_id == c.id, sa.not_(a.repeat)",
        "a.labeler == labeler, a.comparison_id == c.id",
        ("store",),
    ),
    Mutant(
        "items passed over are asked",
        "labels/store/queries",
        "query = query.where(c.id.not_in(without))",
        "pass",
        ("store",),
    ),
    Mutant(
        "claims of another window are not honoured",
        "labels/store/claims",
        "if row is not None and row.holder != holder and is_shown(*row):\n        return False",
        "if False:\n        return False",
        ("store",),
    ),
    Mutant(
        "a window keeps its old claims",
        "labels/store/claims",
        "sa.or_(same, c.holder == holder)",
        "same",
        ("store",),
    ),
    Mutant(
        "claims never end",
        "labels/store/claims",
        "return until >= time.time()",
        "return True",
        ("store",),
    ),
    Mutant(
        "claims of ended processes are honoured",
        "labels/store/claims",
        "    except ProcessLookupError:\n        return False",
        "    except ProcessLookupError:\n        return True",
        ("store",),
    ),
    Mutant(
        "a first answer's claim covers the repeat",
        "labels/store/claims",
        '"comparison_id": comparison_id, "repeat": repeat}',
        '"comparison_id": comparison_id, "repeat": False}',
        ("store",),
    ),
    Mutant(
        "labels only in the write-ahead log",
        "labels/store/opening",
        '            if cursor.execute("PRAGMA journal_mode").fetchone()[0] == "wal":\n                cursor.execute("PRAGMA journal_mode = DELETE")',
        '            cursor.execute("PRAGMA journal_mode = WAL")',
        ("store_copies",),
    ),
    Mutant(
        "a store with a write-ahead log stays so",
        "labels/store/opening",
        '                cursor.execute("PRAGMA journal_mode = DELETE")',
        "                pass",
        ("store_copies",),
    ),
    Mutant(
        "the log of another file is read",
        "labels/store/leftovers",
        "        log.rename(_free_name(log))",
        "        pass",
        ("store_copies",),
    ),
    Mutant(
        "the log of another file is deleted",
        "labels/store/leftovers",
        "log.rename(_free_name(log))",
        "log.unlink()",
        ("store_copies",),
    ),
    Mutant(
        "a store's own log is set aside",
        "labels/store/leftovers",
        'if header[18:20] != b"\\x02\\x02":',
        "if True:",
        ("store_copies",),
    ),
    Mutant(
        "saved before it is on the disk",
        "labels/store/opening",
        "PRAGMA synchronous = EXTRA",
        "PRAGMA synchronous = OFF",
        ("store",),
    ),
    Mutant(
        "a label of an unknown comparison is kept",
        "labels/store/opening",
        "PRAGMA foreign_keys = ON",
        "PRAGMA foreign_keys = OFF",
        ("store",),
    ),
    Mutant(
        "the journal of another store is rolled in",
        "labels/store/leftovers",
        "before[STORE_ID] == page_1[STORE_ID] and ",
        "",
        ("store_copies",),
    ),
    Mutant(
        "an old journal of the same store is rolled in",
        "labels/store/leftovers",
        " and counter in (started_at, started_at + 1)",
        "",
        ("store_copies",),
    ),
    Mutant(
        "a store's own journal is set aside",
        "labels/store/leftovers",
        "counter in (started_at, started_at + 1)",
        "counter == started_at",
        ("store_copies",),
    ),
    Mutant(
        "another schema is opened",
        "labels/store/opening",
        'if values["schema"] != str(SCHEMA):',
        "if False:",
        ("store",),
    ),
    Mutant(
        "the database of another program is used",
        "labels/store/opening",
        'if values.get("application") != APPLICATION:',
        "if False:",
        ("store",),
    ),
    Mutant(
        "an answer is not in one transaction with its sitting",
        "labels/store/label_store",
        "            sitting = self._sit_down(db, given, item.task)\n            number",
        "            with self._engine.begin() as other:\n                sitting = self._sit_down(other, given, item.task)\n            number",
        ("store",),
    ),
    Mutant(
        "a file that was replaced is written to",
        "labels/store/reader",
        "self.file.stat().st_ino != self._inode",
        "False",
        ("store_copies",),
    ),
    Mutant(
        "a break does not end a sitting",
        "labels/store/label_store",
        "event.created - latest <= BREAK_SECONDS",
        "True",
        ("store",),
    ),
    Mutant(
        "a contradiction is added",
        "labels/store/label_store",
        "if strict and taken.conflicts:",
        "if False:",
        ("store",),
    ),
    Mutant(
        "a merge brings back what was taken back",
        "labels/store/merging",
        "        if e.identity in known:\n            continue\n",
        '        if e.identity in known and e.kind == "undo":\n            continue\n',
        ("agreement",),
    ),
    Mutant(
        "a merge forgets undos",
        "labels/store/merging",
        "if number is None or not _stands(db, target.kind, number):",
        "if True:",
        ("agreement",),
    ),
    Mutant(
        "a merge hides contradictions",
        "labels/store/merging",
        "if (standing[key].kind, standing[key].choice) != (e.kind, e.choice):",
        "if False:",
        ("agreement",),
    ),
    Mutant(
        "a merge leaves the counters",
        "labels/store/merging",
        "        recount(db, labeler, task)\n",
        "        pass\n",
        ("agreement",),
    ),
    Mutant(
        "a merge of half the files",
        "labels/agreement",
        "if empty := [name for name, held in read if not held.events]:",
        "if empty := []:",
        ("handin",),
    ),
    Mutant(
        "a receipt without reading back",
        "labels/handin",
        "if wrote != found:",
        "if False:",
        ("handin",),
    ),
    Mutant(
        "a hand-in with everybody's labels",
        "labels/handin",
        "events = [e for e in held.events if e.labeler == labeler]",
        "events = list(held.events)",
        ("handin",),
    ),
    Mutant(
        "an old token is taken",
        "labels/sessions",
        "(token is not None and token != self.token) or (",
        "(",
    ),
    Mutant(
        "a message with an old token is taken",
        "labels/sessions",
        'if message.get("token") != self.token or kind',
        "if kind",
    ),
    Mutant(
        "answers faster than anybody reads are taken",
        "labels/sessions",
        "if seconds < SETTLE_SECONDS and not self.pending:",
        "if False:",
    ),
    Mutant(
        "the slot is stored as the choice",
        "labels/sessions",
        "else self.order[slot]\n        try",
        "else slot\n        try",
    ),
    Mutant(
        "the order on the screen is not kept",
        "labels/sessions",
        "kind, choice, self.order, took,",
        "kind, choice, (), took,",
    ),
    Mutant(
        "a repeat counts as a first answer",
        "labels/sessions",
        "simulated=self.simulated, repeat=self.repeat, holder",
        "simulated=self.simulated, repeat=False, holder",
    ),
    Mutant(
        "a repeat stands in the same order",
        "labels/asking",
        "return first[1:] + first[:1] if self.repeat else first",
        "return first",
        ("sessions",),
    ),
    Mutant(
        "a repeat comes back again and again",
        "labels/asking",
        "never = {i for i, _, repeat in latest if repeat} | set(self.gold)",
        "never = set(self.gold)",
        ("sessions",),
    ),
    Mutant(
        "gold items are asked twice",
        "labels/asking",
        "if repeat} | set(self.gold) | self.equal",
        "if repeat} | self.equal",
        ("sessions",),
    ),
    Mutant(
        "the latest items come back",
        "labels/asking",
        "and not repeat][:-FRESH]",
        "and not repeat]",
        ("sessions",),
    ),
    Mutant(
        "what was chosen is asked though another window has answered it",
        "labels/asking",
        "or chosen[0].id in self._answered:",
        "or False:",
        ("asking",),
    ),
    Mutant(
        "how an item was picked is forgotten when it comes back",
        "labels/sessions",
        "self.way, self.flags = way or self.way, 0",
        "self.flags = 0",
        ("asking",),
    ),
    Mutant(
        "what was asked at random counts as picked",
        "labels/standing",
        'not in ("", RANDOM)}',
        'not in ("",)}',
        ("asking",),
    ),
    Mutant(
        "what the model picked is in the share guessed",
        "course/mirror",
        "if g.comparison_id not in picked]",
        "if g.comparison_id]",
    ),
    Mutant(
        "the count stands still at a repeat",
        "labels/sessions",
        "return p.done + p.skipped + p.repeats, p.left + again",
        "return p.done + p.skipped, p.left",
    ),
    Mutant(
        "repeats in a row",
        "labels/asking",
        "if any(repeat for _, _, repeat in latest[-self.repeat_every :]):",
        "if False:",
        ("sessions",),
    ),
    Mutant(
        "undo takes back another card's answer",
        "labels/sessions",
        "self.labeler, self.task, among=self.items, holder=self.window",
        "self.labeler, self.task, holder=self.window",
    ),
    Mutant(
        "an answer is saved though another window shows the item",
        "labels/sessions",
        "            if not self._claim(self.current.id, self.repeat):",
        "            if False:",
    ),
    Mutant(
        "the claims of another cell are dropped",
        "labels/sessions",
        '{os.getpid()}/{cell}-"',
        '{os.getpid()}/"',
    ),
    Mutant(
        "a failed save is forgotten",
        "labels/sessions",
        'self.pending = {"kind": kind, "slot": slot, "note": note}',
        "self.pending = None",
    ),
    Mutant(
        "a failed save moves on",
        "labels/sessions",
        '                self.pending = {"kind": kind, "slot": slot, "note": note}\n                return False',
        '                self.pending = {"kind": kind, "slot": slot, "note": note}\n                self.refresh()\n                return False',
    ),
    Mutant(
        "breaks count as thought",
        "labels/sessions",
        "took = min(self.clock() - self.shown_at if seconds is None else seconds, IDLE_SECONDS)",
        "took = self.clock() - self.shown_at if seconds is None else seconds",
    ),
    Mutant(
        "a flag ends the item",
        "labels/sessions",
        "        self.flags += 1\n        return True",
        "        self.refresh()\n        return True",
    ),
    Mutant(
        "a skipped second showing is asked for ever",
        "labels/asking",
        'x[1] != "skip" or x[2]]',
        'x[1] != "skip"]',
        ("past",),
    ),
    Mutant(
        "an undo after a flag takes the answer before it",
        "labels/store/queries",
        "(answer.event_id if answer else 0), e.id.not_in(undone)",
        "(answer.event_id if answer else 0), e.id.in_(undone)",
        ("past",),
    ),
    Mutant(
        "a change leaves no trace of the old answer",
        "labels/store/label_store",
        "            history.take_back(db, row, undo._replace(session=sitting.id))\n            number",
        "            db.execute(sa.delete(answers).where(answers.c.event_id == answer))\n            number",
        ("past",),
    ),
    Mutant(
        "answers before the mirror are marked as under it",
        "labels/sessions",
        'MIRROR if self.mirror else ""',
        "MIRROR",
        ("past",),
    ),
    Mutant(
        "equal options are asked",
        "labels/asking",
        "without=taken | self.equal",
        "without=taken",
        ("sessions",),
    ),
    Mutant(
        "equal options of a list are asked",
        "labels/sessions",
        "else {c.id: c for c in items if not c.has_equal_options}",
        "else {c.id: c for c in items}",
    ),
    Mutant(
        "equal options are counted as left",
        "labels/asking",
        "p.total - self.left_out",
        "p.total",
        ("sessions",),
    ),
    Mutant(
        "answers to equal options end a session early",
        "labels/asking",
        "done = p.done - (len(kinds) - skipped)",
        "done = p.done",
        ("sessions",),
    ),
    Mutant(
        "two writes for one click",
        "labels/sessions",
        "following=None if following is None else following[0].id,",
        "following=None,",
    ),
]


def plant(mutant: Mutant, source: str) -> str:
    """Return the source with the fault, however the text to replace is broken into lines.

    Raises ValueError unless that text is there exactly once.
    """
    start, text, end = re.fullmatch(r"(\s*)(.*?)(\s*)", mutant.old, re.DOTALL).groups()
    pattern = re.sub(r"(?:\\\s)+", r"\\s+", re.escape(text))
    pattern = re.sub(r"(\\[(\[{])", r"\1\\s*", pattern)
    pattern = re.sub(r"(\\[)\]}])", r",?\\s*\1", pattern)
    found = re.findall(re.escape(start) + pattern + re.escape(end), source)
    if len(found) != 1:
        raise ValueError(
            f"{mutant.fault}: its text is {len(found)} times in {mutant.module}.py, "
            f"not once: {mutant.old!r}"
        )
    return source.replace(found[0], mutant.new)


def test_files(mutant: Mutant) -> tuple[str, ...]:
    """Name the tests that must notice a fault."""
    return tuple(f"tests/test_{name}.py" for name in mutant.tests or (Path(mutant.module).name,))


def key(mutant: Mutant) -> str:
    return f"{mutant.module}: {mutant.fault}"


def failing(tests: tuple[str, ...], mutant: Mutant | None = None) -> str:
    """Run tests on a copy of the package, with the fault if one is given, until one fails.

    Returns the name of that test, or "" if all passed. Raises RuntimeError if they could not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(
            ROOT / "rlhf_helpers",
            copy / "rlhf_helpers",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        shutil.copytree(
            ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__", "browser")
        )
        for name in ("data", "notebooks", "docs", "scripts", "benchmarks"):  # tests read them
            (copy / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            path = copy / "rlhf_helpers" / f"{mutant.module}.py"
            path.write_text(plant(mutant, path.read_text(encoding="utf-8")), encoding="utf-8")
        process = FORKS.Process(target=run_tests, args=(folder, tests))
        process.start()
        process.join()
        # Two threads that wait may take each other's exit code for their own, so a file says it.
        ended = copy / "ended"
        code = (
            int(ended.read_text()) if ended.exists() else f"no code of pytest ({process.exitcode})"
        )
        first = copy / "failed"
        name = first.read_text(encoding="utf-8") if first.exists() else ""
    if code not in (0, 1):
        raise RuntimeError(
            f"{mutant.fault if mutant else tests}: the tests ended with {code}, which is neither "
            "passed nor failed"
        )
    return (name or tests[0]) if code else ""


class FirstFailure:
    """Leaves the name of the first test that fails in a file."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not Path("failed").exists():
            name = report.nodeid.split("[")[0]  # parameters may be called otherwise some day
            Path("failed").write_text(name, encoding="utf-8")


def run_tests(folder: str, tests: tuple[str, ...]) -> None:
    """Run tests in a fork of its own, on the package in `folder`, without a word; leaves pytest's
    code in the file `ended`."""
    os.chdir(folder)
    os.environ["PYTHONPATH"] = folder  # for processes that tests start
    sys.path.insert(0, folder)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    words = ["-x", "-q", "-p", "no:cacheprovider", *tests]
    code = int(pytest.main(words, plugins=[FirstFailure()]))
    Path(folder, "ended").write_text(str(code))


def hunt(mutant: Mutant, noticed: dict[str, str]) -> tuple[str, float]:
    """Return the name of a test that notices the fault, "" if none does, and the seconds."""
    start, files = time.time(), test_files(mutant)
    witness = noticed.get(key(mutant), "")
    found = witness and failing((witness,), mutant)
    return found or failing(files, mutant), time.time() - start


def sets_of_tests(chosen: list[Mutant], noticed: dict[str, str]) -> list[tuple[str, ...]]:
    """List what has to pass without a fault: the tests that noticed one, or their whole files."""
    sets: dict[tuple[str, ...], set[str]] = {}
    for mutant in chosen:
        files = test_files(mutant)
        sets.setdefault(files, set()).update(
            [noticed[key(mutant)]] if key(mutant) in noticed else files
        )
    return sorted(tuple(sorted(tests)) for tests in sets.values())


def known(chosen: list[Mutant]) -> dict[str, str]:
    """Read which test noticed which fault; those that are gone are left out."""
    kept = json.loads(NOTICED.read_text(encoding="utf-8")) if NOTICED.exists() else {}
    texts: dict[str, str] = {}
    found = {}
    for mutant in chosen:
        file, _, name = kept.get(key(mutant), "").partition("::")
        if file in test_files(mutant) and (ROOT / file).exists():
            text = texts.setdefault(file, (ROOT / file).read_text(encoding="utf-8"))
            if f"def {name.split('::')[-1]}(" in text:
                found[key(mutant)] = f"{file}::{name}"
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="faults whose name or module contains this")
    parser.add_argument(
        "--record", action="store_true", help="write down which test noticed which fault"
    )
    args = parser.parse_args(arguments)
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}  # before the first fork
    chosen = [m for m in MUTANTS if args.only in key(m)]
    noticed = known(chosen)
    survivors = []
    with ThreadPoolExecutor(args.jobs) as pool:
        sets = sets_of_tests(chosen, noticed)
        broken = [name for name in pool.map(failing, sets) if name]
        if broken:  # they would seem to notice everything
            raise SystemExit(
                f"with no fault planted these fail already: {'; '.join(broken)}. Mend them first"
            )
        hunted = pool.map(hunt, chosen, [noticed] * len(chosen))
        for number, (mutant, (test, seconds)) in enumerate(
            zip(chosen, hunted, strict=True), start=1
        ):
            said = "noticed " if test else "SURVIVED"
            print(
                f"{number:3} of {len(chosen)}  {said}  {seconds:4.0f} s  {key(mutant)}", flush=True
            )
            survivors += [] if test else [mutant]
            if args.record and test:
                record(key(mutant), test)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults noticed")
    if survivors:
        raise SystemExit("no test noticed: " + "; ".join(map(key, survivors)))


def record(fault: str, test: str) -> None:
    """Write down which test noticed a fault; faults that are no longer planted go."""
    kept = json.loads(NOTICED.read_text(encoding="utf-8")) if NOTICED.exists() else {}
    planted = {key(m) for m in MUTANTS}
    kept = {k: v for k, v in (kept | {fault: test}).items() if k in planted}
    NOTICED.write_text(json.dumps(kept, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
