"""Bystanders and clothes: what is once said of them stays; and goods, plain or described."""

from __future__ import annotations

from .voice import Voice

ZONES = ("head", "body", "neck", "feet", "hands")


class Cast(Voice):
    """The voice, with the people around and what the two of the story wear."""

    def slot_person(self, sub: str) -> str:
        """Name a bystander: one whom the story knows already, or somebody new."""
        self.seen.add("crowd")
        chance = self.chance
        known = [f for f in self.bystanders if f not in self.now]
        if known and chance.flip(0.45):
            folk = chance.pick(known)
            self.now.append(folk)
            return f"the {folk}"
        folk = chance.pick([f for f in self.words.lists["folk.n"] if f not in self.bystanders])
        self.bystanders.append(folk)
        self.now.append(folk)
        form = chance.draw({"sort": 0.6, "bare": 0.15, "street": 0.17, "village": 0.08})
        if form == "sort":
            return f"the {self.quality('folk')} {folk}"
        return f"the {folk}" if form == "bare" else f"the {folk} from {self.listed(form)}"

    def quality(self, kind: str) -> str:
        """Choose an adjective of the sentence's mood that the story has not used of this kind."""
        options = self.words.qualities[f"{kind} {self.mood}"]
        fresh = [q for q in options if f"{kind} {q}" not in self.used] or options
        adjective = self.chance.pick(fresh)
        self.used.add(f"{kind} {adjective}")
        return adjective

    def slot_goods(self, sub: str) -> str:
        goods = self.listed("goods")
        described = " " not in goods and self.described(0.75)
        return f"{self.quality('goods')} {goods}" if described else goods

    def slot_food(self, sub: str) -> str:
        return self.listed("food")

    def slot_snack(self, sub: str) -> str:
        snack = self.listed("snack")
        if snack.startswith(("a ", "an ")) and self.described(0.85):
            return f"a {self.quality('snack')} {snack.split(' ', 1)[1]}"
        return snack

    def described(self, p: float) -> bool:
        return self.chance.flip(p if self.vivid else 0.8 * p)

    def slot_clothes(self, sub: str) -> str:
        """Name something that the actor wears: one piece for each part of the body."""
        key, chance = self.actor, self.chance
        zone = chance.pick([z for z in ZONES if f"zone {z}" not in self.now])
        self.now.append(f"zone {zone}")
        worn = f"{key} {zone}"
        first = worn not in self.given
        if first:
            self.given[worn] = chance.pick(self.words.lists[f"zone {zone}"])
        text = self.given[worn]
        if first or (self.vivid and chance.flip(0.5)):
            if f"{worn} colour" not in self.given:
                self.given[f"{worn} colour"] = chance.pick(self.words.colours)
            text = f"{self.given[f'{worn} colour']} {text}"
        return f"{self.pronoun(key, 'his')} {text}"
