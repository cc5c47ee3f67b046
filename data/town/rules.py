"""The grammar written down: every slot as a rule, made from the files that the narrator uses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .cast import ZONES
from .files import MOODS, Words, listed
from .language import Node, read
from .simulation import WEATHERS
from .voice import CONTESTS, SHORT, clock, shapes
from .words import inflect


def either(texts: Iterable[str]) -> str:
    """Write alternatives."""
    return "(" + "|".join(dict.fromkeys(texts)) + ")"


def rules(words: Words, test: bool) -> dict[str, Node]:
    """Write the grammar down: slot -> what it may be."""
    text: dict[str, str] = {}
    for name, entries in words.lists.items():
        text[name] = either([*entries, *(words.test_lists.get(name, []) if test else [])])
    for name in ("goods", "snack"):
        described = either(q for m in MOODS.values() for q in words.qualities[f"{name} {m}"])
        text[name] = f"[{described} ]{text[name]}"
    plates = text["snack"].split("({number} {bite}|", 1)
    text["snack"] = (
        f"({{number}} {{bite}}|a {plates[0]}(" + re.sub(r"\|an? ", "|", "|" + plates[1])[1:] + ")"
    )
    for name, short in SHORT.items():
        text[f"{name}_full"] = text[name]
        text[name] = f"({{{name}_full}}|{short})"
    text["contest"] = text["contest"][:-1] + f"|the {either(CONTESTS)})"
    text |= people_rules(words) | thing_rules(words) | place_rules(words) | time_rules(words)
    text |= speech_rules(words) | carrying_rules(words)
    steps = [(s, t) for s in words.steps.values() for t in s.said.get("v", ())]
    text["V"] = either(f"{{step={s.name}}}{t}" for s, t in steps)
    codas = [p.coda for p in words.people] + [t for b in words.pools["endings"].values() for t in b]
    text["V"] = text["V"][:-1] + "|" + "|".join(f"{{step=coda}}{t}" for t in codas) + ")"
    text["C"] = either(
        f"{{step={s.name}}}{t}" for s in words.steps.values() for t in s.said.get("c", ())
    )
    quotes = [
        (s.name, t)
        for s in words.steps.values()
        for k, ts in s.said.items()
        if k[0] == "q"
        for t in ts
    ]
    quotes += [
        ("reply", t)
        for temper in words.tempers.values()
        for key in ("r+", "r0", "r-")
        for t in temper[key]
    ]
    quotes += [("reply", t) for pool in words.pools["speech"].values() for t in pool]
    text["Q"] = either(f"{{step={name}}}{t}" for name, t in quotes)
    parts = shapes(test)
    for part in ("v", "c", "q", "ask"):
        text["core_" + part] = either(parts[part].values())
    text["front"] = either([*parts["front"].values(), "{open},", "{at_any},", "{open} {at_any},"])
    text["end"] = either(t.strip() for t in parts["end"].values())
    text["sentence"] = (
        "([{front} ]({core_v}|{core_c})[ {end}].|[{front} ](({core_q}|{core_ask})[[,] {end}].|"
        "({core_q}|{core_ask}))|({detail}|{aside}|{react}).)"
    )
    text["detail"], text["aside"] = (
        either(parts["detail"].values()),
        either(parts["scene"].values()),
    )
    text["thought"] = either(t for body in words.pools["reacts"].values() for t in body)
    text["react"] = either(parts["thought"].values())
    return {name: read(value) for name, value in text.items()}


def people_rules(words: Words) -> dict[str, str]:
    pairs = [
        "{nm} the {tr}",
        "{nm}, the {tr}[,]",
        "{nm}, a {tr} who {quirk}[,]",
        "{nm}",
        "the {tr}",
    ]
    subject = either([*pairs, "{pronoun=he}he", "{pronoun=she}she"])
    other = either([*pairs, "{pronoun=he}him", "{pronoun=she}her"])
    his = "({pronoun=he}his|{pronoun=she}her)"
    return {
        "nm": either(p.name.lower() for p in words.people),
        "tr": either(p.trade for p in words.people),
        "person": "the ({p_sort} {p_folk}|{p_folk}[ from {p_home}])",
        "p_folk": either(words.lists["folk.n"]),
        "p_sort": either(q for m in MOODS.values() for q in words.qualities[f"folk {m}"]),
        "p_home": "({street}|{village})",
        "clothes": f"{his} [{{c_colour}} ]{{c_worn}}",
        "c_colour": either(words.colours),
        "c_worn": either(f"{{zone={z}}}{g}" for z in ZONES for g in words.lists[f"zone {z}"]),
        "trade": "{tr}",
        "trade.x": "{tr}",
        "quirk": either(p.quirk for p in words.people),
        "S": subject,
        "X": subject,
        "X.he": subject,
        "S.him": other,
        "X.him": other,
        "X.his": f"({{nm}}'s|{his})",
        "other.his": f"({{nm}}'s|{his})",
        "S.his": his,
        "he": "({pronoun=he}he|{pronoun=she}she)",
        "him": "({pronoun=he}him|{pronoun=she}her)",
        "his": his,
        "self": "({pronoun=he}himself|{pronoun=she}herself)",
    }


def thing_rules(words: Words) -> dict[str, str]:
    parts = list(dict.fromkeys(part for t in words.things for part in t.parts))
    faults = list(dict.fromkeys(f for t in words.things for fs in t.parts.values() for f in fs))
    tools = [
        tool for name, entries in words.lists.items() if name.endswith(" tools") for tool in entries
    ]
    dishes = [d for d in words.lists["cake"] + words.lists["soup"] if not d.endswith("buns")]
    looks = [look for a in words.animals for ls in a.looks.values() for look in ls]
    acts = [act for a in words.animals for act in (a.cry, *a.acts, *a.outdoor_acts)]
    full = "({determiner} {np}|it)"
    return {
        "determiner": "({first=}a|the|{pronoun=he}his|{pronoun=she}her|{nm}'s)",
        "o": full,
        "o.my": full,
        "o.a": full,
        "o.q": "{np}",
        "o.full": "{np}",
        "o.n": "{np}",
        "part_noun": either(parts),
        "part": "(the|its) {part_noun}",
        "part.n": "{part_noun}",
        "opart": f"(its {{part_noun}}|the {{part_noun}} of {full})",
        "opart.my": f"(its {{part_noun}}|the {{part_noun}} of {full})",
        "fault": either(faults),
        "works": either(dict.fromkeys(t.works for t in words.things)),
        "mendtool": either(tools),
        "dish": "(the {dish_noun}|it)",
        "dish_noun": either(dishes),
        "dish.n": "{dish_noun}",
        "animal_noun": either(a.noun for a in words.animals),
        "animal": f"(a|the) [{either(looks)} ]{{animal_noun}}",
        "animal.n": "{animal_noun}",
        "animal_act": f"{{animal}} {either(acts)}",
    }


def place_rules(words: Words) -> dict[str, str]:
    nouns = either(p.noun for p in words.places)
    at = either(f"{{here={p.noun}}}{p.prep} the {p.noun}" for p in words.places)
    preps = either(dict.fromkeys(prep for p in words.places for f in p.features for prep in f[2]))
    smells = either(dict.fromkeys(s for p in words.places for ss in p.smells.values() for s in ss))
    verbs = "(hung in the air|filled the air|drifted about|came from every corner)"
    target = either(f"{{target={p.noun}}}the {p.noun}" for p in words.places)
    return {
        "at": at,
        "at_any": at,
        "P": f"the {nouns}",
        "to": f"to the {nouns}",
        "Q.to": f"to {target}",
        "Q.the": target,
        "feat": "the {furniture}",
        "spot": f"{preps} the {{furniture}}",
        "spot.from": f"{preps} the {{furniture}}",
        "smell_back": f"(a|the) smell of {smells} {verbs}",
        "sound_back": either(dict.fromkeys(s for p in words.places for s in p.sounds)),
    }


def time_rules(words: Words) -> dict[str, str]:
    found = clock()
    rule = {
        "sky": either(
            f"{{sky={w}}}{line.split(' ', 1)[1]}"
            for w, line in zip(WEATHERS, found["sky"], strict=True)
        )
    }
    opens, times, scenes = [], [], []
    for hour in "01234":
        opens += [f"{{hour={hour}}}{t}" for t in listed(found[hour][0].removeprefix("open"), ";")]
        times += [f"{{hour={hour}}}{t}" for t in listed(found[hour][1].removeprefix("later "), ";")]
        scenes += [
            f"{{hour={hour}}}{t}"
            for line in found[hour][2:]
            for t in listed(line.removeprefix("scene "), ";")
        ]
    return rule | {
        "scene": either(scenes),
        "open": either(opens),
        "time": either(times),
        "time.later": either(times),
    }


def speech_rules(words: Words) -> dict[str, str]:
    def of(*keys: str) -> str:
        return either(e for temper in words.tempers.values() for key in keys for e in temper[key])

    verbs = dict.fromkeys(
        v.strip("<>") for t in words.tempers.values() for k in ("s+", "s0", "s-") for v in t[k]
    )
    moods = (*MOODS.values(), "sad", "brave")
    verbs |= dict.fromkeys(v for m in moods for v in words.lists[f"verbs {m}"])
    asked = either(v for m in MOODS.values() for v in words.lists[f"asked {m}"])
    said = either(inflect(v, "past") for v in verbs)
    return {
        "sv": either(f"<{v}>" for v in verbs),
        "said": f"({said} {{S}}|{{S}} {said})",
        "asked": f"({asked} {{S}}|{{S}} {asked})",
        "exclaim": f"({of('x')}|{{oath}})",
        "opening": of("o"),
        "address": f"({of('a')}|{{call+}}|{{call0}}|{{call-}})",
        "saying": of("say+", "say0", "say-"),
    }


def carrying_rules(words: Words) -> dict[str, str]:
    def pool(name: str) -> list[str]:
        return [t for body in words.pools[name].values() for t in body]

    temper = [
        t for entry in words.tempers.values() for key in ("t+", "t0", "t-") for t in entry[key]
    ]
    skies = []
    for state, entry in words.weather.items():
        skies += [
            f"{{sky={state}}}{t.split(' ', 1)[1]}" for mood in MOODS.values() for t in entry[mood]
        ]
        skies += [f"{{change={state}}}{t}" for t in entry["change"]]
    manners = {
        m
        for head, ms in words.qualities.items()
        if head.startswith("manner ") and "feel" not in head
        for m in ms
    }
    manner = either(sorted(manners))
    feels = {
        f"feel{mood}": either(words.qualities[f"manner feel {mood}"]) for mood in MOODS.values()
    }
    back = [*pool("backs"), "{smell_back}", "{sound_back}", "{animal_act}", *skies]
    tails = [
        f"{{sky={key.split()[1]}}}{t}" if key.startswith("sky ") else t
        for key, body in words.pools["tails"].items()
        for t in body
    ]
    return feels | {
        "tail": either([*tails, *temper]),
        "end": "",
        "back": either(back),
        "people": "{back}",
        "back.view": "{back}",
        "manner": manner,
        "manner.ly": manner,
        "end_pool": either(pool("ends")),
    }
