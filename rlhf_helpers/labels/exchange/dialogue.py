"""Where the prompt of two replies ends: the one rule for a prompt, a chosen and a rejected reply.

A prompt that both replies repeat is taken out of them. Without one, it is what both begin with: of
a dialogue, up to the last role marker; of other texts, whole words. The space that follows belongs
to the reply.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any

Message = tuple[str, str]  # role, content

# Roles with a colon, where a line begins or (the long ones, capitalised) anywhere in it, as in
# "USER: Hi ASSISTANT: Hello"; and the markers of chat templates, with their line break.
_ROLES = re.compile(
    r"""(?:^|(?<=\n))[ \t>*\#]*(?i:(?P<line>assistant|gpt|bot|chatbot|ai|model|response|answer|a)
            |human|user|system|instruction|input|question|prompt|prompter|h|q):
    |(?<!\w)(?:(?P<word>Assistant|ASSISTANT)|Human|HUMAN|User|USER):
    |<\|(?:(?P<tag>assistant)|user|system|prompter)\|>\n?
    |<\|im_start\|>(?:(?P<im>assistant)|\w+)\n
    |<\|start_header_id\|>(?:(?P<header>assistant)|\w+)<\|end_header_id\|>\n*
    |<start_of_turn>(?:(?P<turn>model)|\w+)\n
    |(?P<inst>\[/INST\])""",
    re.VERBOSE,
)
_REPLIES = ("assistant", "gpt", "bot", "chatbot", "ai", "model")  # roles of messages
_PRINTED = re.compile(r"\s*\[\s*\{\s*['\"](role|content|from|value)['\"]\s*:")
_ENDS = "。！？"  # ends of sentences in scripts that put no space between words
_JOINER = "\u200d"  # between the parts of one emoji


def split(prompt: Any, chosen: Any, rejected: Any, repeated: bool = True) -> tuple[str, str, str]:
    """Return prompt, chosen and rejected reply as texts; a prompt of None is derived.

    Each may be a text or a list of messages with role and content. With `repeated` False a prompt
    that the replies begin with is part of them. Raises ValueError if there is no prompt to derive.
    """
    if any(isinstance(x, list) for x in (prompt, chosen, rejected)):
        return _split_messages(
            None if prompt is None else _messages(prompt, "user"),
            _messages(chosen, "assistant"),
            _messages(rejected, "assistant"),
            repeated,
            by_role=isinstance(prompt, list),
        )
    for value in (chosen, rejected, *([] if prompt is None else [prompt])):
        if not isinstance(value, str):
            raise ValueError(f"expected a text or a list of messages, got {str(value)[:40]!r}")
    if repeated and _PRINTED.match(chosen) and _PRINTED.match(rejected):
        raise ValueError(
            "chosen and rejected are lists of messages that were printed as text, as tables do: "
            "read the JSON or parquet file that they come from"
        )
    if prompt is None:
        prompt = chosen[: _end_of_prompt(chosen, rejected)]
    elif not (repeated and _repeats(prompt, chosen) and _repeats(prompt, rejected)):
        return prompt, chosen, rejected
    return prompt, chosen[len(prompt) :], rejected[len(prompt) :]


# ---- texts ---------------------------------------------------------------------------------------


def _end_of_prompt(a: str, b: str) -> int:
    """Find where the prompt ends that two texts begin with."""
    if a == b:
        return 0
    same = len(os.path.commonprefix([a, b]))
    found = [m for m in _ROLES.finditer(a, 0, same) if _whole(a, m.end()) and _whole(b, m.end())]
    if found:
        return next((m.end() for m in reversed(found) if m.lastgroup), found[-1].end())
    for end in range(same, 0, -1):
        if all(_at_gap(x, end) for x in (a, b)):
            return end
    raise ValueError(
        'there is no "prompt", and chosen and rejected do not begin with the same words'
    )


def _at_gap(x: str, end: int) -> bool:
    """Say whether a word, or a sentence, ends here; spaces belong to what follows."""
    if x[end - 1].isspace():
        return False
    return end == len(x) or x[end].isspace() or (x[end - 1] in _ENDS and _whole(x, end))


def _repeats(prompt: str, reply: str) -> bool:
    """Say whether a reply begins with the prompt; "The" does not begin "There", nor "e" an "é"."""
    if not prompt.strip() or not reply.startswith(prompt) or not _whole(reply, len(prompt)):
        return False
    before, after = reply[len(prompt) - 1], reply[len(prompt) :][:1]
    # in scripts without spaces ("Lo") a word may end between any two letters
    inside = before.isalnum() and after.isalnum() and unicodedata.category(before) != "Lo"
    return len(prompt.split()) > 1 or not inside


def _whole(x: str, end: int) -> bool:
    """Say whether a text can be cut here without tearing an accent, an emoji or a flag."""
    if not 0 < end < len(x):
        return True
    before, after = x[end - 1], x[end]
    flags = len(x[:end]) - len(x[:end].rstrip("".join(map(chr, range(0x1F1E6, 0x1F200)))))
    return not (
        unicodedata.category(after).startswith("M")  # accents, and what selects an emoji's form
        or _JOINER in (before, after)
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # colours of skin
        or ("\U0001f1e6" <= after <= "\U0001f1ff" and flags % 2 == 1)
    )


# ---- messages ------------------------------------------------------------------------------------


def _messages(value: Any, role: str) -> list[Message]:
    """Read messages with role and content, or as ShareGPT has them, with from and value."""
    if isinstance(value, str):
        return [(role, value)]
    if isinstance(value, list) and value and all(isinstance(m, dict) for m in value):
        read = [
            (str(m.get("role", m.get("from", role))), m.get("content", m.get("value")))
            for m in value
        ]
        if all(isinstance(content, str) for _, content in read):
            return read
    raise ValueError(f"expected a text or a list of messages, got {str(value)[:40]!r}")


def _split_messages(
    prompt: list[Message] | None,
    chosen: list[Message],
    rejected: list[Message],
    repeated: bool,
    by_role: bool,
) -> tuple[str, str, str]:
    same = len(os.path.commonprefix([chosen, rejected]))
    if prompt is None:
        end = min(same, len(chosen) - 1, len(rejected) - 1)
        # a dialogue that goes on differently after a shared answer: the answer is compared too
        both = (n for n in range(end, 0, -1) if _replies(chosen[n]) and _replies(rejected[n]))
        cut = next(both, end)
        prompt = chosen[:cut]
        if not prompt:
            raise ValueError('there is no "prompt", and chosen and rejected begin differently')
    else:
        cut = _repeated_messages(prompt, chosen[:same], by_role) if repeated else 0
        prompt = chosen[:cut] or prompt
    chosen, rejected = chosen[cut:], rejected[cut:]
    if not chosen or not rejected:
        raise ValueError("chosen or rejected holds the prompt only: its reply is missing")
    if len(prompt) == len(chosen) == len(rejected) == 1:
        return prompt[0][1], chosen[0][1], rejected[0][1]
    role = chosen[0][0]
    if role != rejected[0][0]:
        return _lines(prompt), *("\n" + _lines(x) for x in (chosen, rejected))
    return (
        f"{_lines(prompt)}\n{role}:",
        *(_lines(x).removeprefix(f"{role}:") for x in (chosen, rejected)),
    )


def _replies(message: Message) -> bool:
    return message[0].lower() in _REPLIES


def _repeated_messages(prompt: list[Message], shared: list[Message], by_role: bool) -> int:
    """Count the messages, of those that both replies begin with, up to the prompt's last."""

    def same(messages: list[Message]) -> bool:
        return messages == prompt if by_role else [m[1] for m in messages] == [prompt[0][1]]

    ends = range(len(prompt), len(shared) + 1)
    return next((end for end in ends if same(shared[end - len(prompt) : end])), 0)


def _lines(messages: list[Message]) -> str:
    return "\n".join(f"{role}: {content}" for role, content in messages)
