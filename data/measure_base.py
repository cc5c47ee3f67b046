"""Measure the base model on the test split and write its model card (`make base` runs this last).

Three bars, on 500 samples each at temperature 0.7: whole sentences that a frame can have made;
people and objects of the prompt that stay the same; zero-shot summaries of posts that state only
true facts. Plus held-out perplexity.
"""

from __future__ import annotations

import argparse
import json
import re
import sys

import torch
from grammar import World, sentences
from train_base import encoded, perplexity
from train_tokenizer import DATA
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(DATA.parent))
from rlhf_helpers import models, sampling, tasks  # noqa: E402

SAMPLES, TEMPERATURE, SEED = 500, 0.7, 7


def continuations(
    policy: models.Policy, tokenizer, task: tasks.Task, length: int
) -> tuple[list[str], list[str]]:
    """Sample one continuation for each of 500 test prompts; cut it where the model ends the
    document."""
    queries = tasks.queries(task, tokenizer, SAMPLES, split="test", seed=SEED)
    generator = torch.Generator().manual_seed(SEED)
    rollout = sampling.sample(policy, queries, length, TEMPERATURE, generator, chunk=100)
    texts = tokenizer.batch_decode(rollout.responses, skip_special_tokens=False)
    return tasks.query_texts(queries, tokenizer), [t.split(tokenizer.eos_token)[0] for t in texts]


def well_formed(world: World, texts: list[str]) -> tuple[int, int, list[str]]:
    """Count sentences that are whole (the last of a sample is cut off) and those that some frame
    can have made."""
    whole = [s for text in texts for s in sentences(text)[:-1]]
    bad = [s for s in whole if not world.parse(s)]
    return len(whole) - len(bad), len(whole), bad


def mentions(world: World, text: str) -> tuple[set[str], set[str], bool]:
    """Return the people and objects of the parsed sentences of `text`, and whether every pronoun
    agrees with the name it stands for."""
    people: set[str] = set()
    objects: set[str] = set()
    agree = True
    for sentence in sentences(text):
        for _, words in world.parse(sentence)[:1]:
            for person in "AB":
                people |= (names := words.get(person, set()))
                female = bool(names & set(world.lexicon["name_f"]))
                pronouns = {
                    w.lower()
                    for slot, found in words.items()
                    if slot.startswith(f"{person}:") and "role" not in slot
                    for w in found
                }
                if names and pronouns:
                    agree &= pronouns <= (
                        {"she", "her", "herself"} if female else {"he", "him", "his", "himself"}
                    )
            objects |= {
                w.lower().split(" ", 2)[-1] if slot == "obj+" else w.lower()
                for slot in ("obj", "obj+")
                for w in words.get(slot, ())
            }
    return people, objects, agree


def consistent(world: World, prompts: list[str], texts: list[str]) -> tuple[int, int]:
    """Count samples that mention a person or the object, and those in which they fit the prompt: a
    story has two people, one thing."""
    fits = counted = 0
    for prompt, text in zip(prompts, texts, strict=True):
        before, objects_before, _ = mentions(world, prompt)
        after, objects_after, agree = mentions(world, " ".join(sentences(text)[:-1]))
        if not after and not objects_after:
            continue
        counted += 1
        people, objects = before | after, objects_before | objects_after
        women = len(people & set(world.lexicon["name_f"]))
        fits += agree and len(objects) <= 1 and women <= 1 and len(people) - women <= 1
    return fits, counted


def facts_in(world: World, text: str, kind: str, slots: tuple[str, ...]) -> dict[str, set[str]]:
    """Find every fact value that a text mentions, by exact words."""
    found = {
        slot: {
            v
            for v in world.slot_list(slot, kind)
            if re.search(rf"\b{re.escape(v)}\b", text, re.IGNORECASE)
        }
        for slot in slots
    }
    return {slot: values for slot, values in found.items() if values}


def truthful(
    world: World, policy: models.Policy, tokenizer
) -> tuple[int, int, list[tuple[str, str, bool]]]:
    """Summarize 500 test posts zero-shot and count the summaries that state at least one fact and
    only true ones."""
    from make_corpus import POST_FACTS

    queries_seed = torch.Generator().manual_seed(SEED)
    posts = tasks.bundled("posts", "test").select(
        torch.randperm(500, generator=queries_seed).tolist()
    )
    queries = tasks.encode(tasks.TLDR, posts["text"], tokenizer)
    rollout = sampling.sample(
        policy, queries, 48, TEMPERATURE, torch.Generator().manual_seed(SEED), chunk=100
    )
    summaries = [t.split(tokenizer.eos_token)[0] for t in tokenizer.batch_decode(rollout.responses)]
    shown = []
    for post, summary in zip(posts, summaries, strict=True):
        stated = facts_in(world, summary, "post", POST_FACTS)
        shown.append(
            (
                post["text"],
                summary,
                bool(stated) and all(values == {post[slot]} for slot, values in stated.items()),
            )
        )
    return sum(ok for *_, ok in shown), len(shown), shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=0, help="print this many samples of each kind")
    parser.add_argument("--no-card", action="store_true", help="measure only")
    args = parser.parse_args()
    world, policy, tokenizer = World(), models.Policy.load(), models.load_tokenizer()
    prompts, texts = continuations(policy, tokenizer, tasks.SENTIMENT, 96)
    good, whole, bad = well_formed(world, texts)
    fits, counted = consistent(world, prompts, texts)
    true, posts, shown = truthful(world, policy, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(DATA / "base", dtype=torch.float32)
    test_perplexity = perplexity(
        model, encoded("test", AutoTokenizer.from_pretrained(DATA / "base"))
    )
    measured = {
        "test_perplexity": round(test_perplexity, 3),
        "well_formed": round(good / whole, 4), "whole_sentences": whole,
        "consistent": round(fits / counted, 4), "samples_with_people_or_objects": counted,
        "truthful_summaries": round(true / posts, 4),
    }  # fmt: skip
    print(json.dumps(measured, indent=1))
    for prompt, text in list(zip(prompts, texts, strict=True))[: args.show]:
        print(f"\n* {prompt}\n  ->{text}")
    for text, summary, ok in shown[: args.show]:
        print(f"\n* {text}\n  TL;DR:{summary} [{'true' if ok else 'NOT TRUE'}]")
    for sentence in bad[: args.show]:
        print("not well-formed:", sentence)
    if not args.no_card:
        write_card(measured)


def write_card(measured: dict) -> None:
    """Write the measured numbers into the model card, from its template."""
    training = json.loads((DATA / "base" / "training.json").read_text())
    words = {"note": ""} | training | measured | {"minutes": round(training["seconds"] / 60)}
    words["commands"] = ", then ".join(f"`{command}`" for command in training["commands"])
    card = (DATA / "base_card.md").read_text().format(**words)
    (DATA / "base" / "README.md").write_text(card)
    (DATA / "base" / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
