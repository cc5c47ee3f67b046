// The past answers: a list that can be searched; each can be changed, and the history keeps the old one. `answers` comes from Python.

const NO_CHOICE = { tie: "Cannot tell", skip: "Skipped" };

function chosenText(row) {
  return row.kind === "choose" ? row.options[row.slot] : NO_CHOICE[row.kind];
}

class Past {
  // `send(message)` returns whether the message was sent; `close()` closes the list.
  constructor(send, close) {
    [this.send, this.open] = [send, new Set()];
    this.search = el("input", { class: "lm-note lm-search", type: "search", placeholder: "Search in prompts and options", "aria-label": "Search in past answers" });
    this.search.addEventListener("input", () => this.filter());
    this.count = el("span", { class: "lm-found", role: "status" });
    this.list = el("ul", { class: "lm-list", tabindex: "0", "aria-label": "Past answers" });
    const shut = el("button", { class: "lm-tool", type: "button" }, "Close");
    shut.addEventListener("click", close);
    this.root = el("section", { class: "lm-past", role: "group", "aria-label": "Past answers" },
      el("div", { class: "lm-tools" }, this.search, this.count, shut), this.list);
  }

  show(rows) {
    const at = document.activeElement && this.list.contains(document.activeElement) ? document.activeElement.closest("details") : null;
    const item = at ? at.dataset.item : null;
    this.rows = rows;
    this.list.replaceChildren(...rows.map((row) => this.row(row)));
    this.filter();
    const again = item && this.list.querySelector(`li:not([hidden]) > details[data-item="${item}"] > summary`);
    if (item) (again || this.list).focus({ preventScroll: true });
  }

  row(row) {
    const buttons = [...row.options.map((value, slot) => [text("span", "lm-text", value), "choose", slot]), ...Object.keys(NO_CHOICE).map((kind) => [NO_CHOICE[kind], kind, null])];
    const drawn = Date.now();
    const choices = buttons.map(([label, kind, slot]) => {
      const button = el("button", { class: "lm-tool lm-old", type: "button", "aria-pressed": row.kind === kind && row.slot === slot ? "true" : "false" },
        slot === null ? "" : el("span", { class: "lm-key", "aria-hidden": "true" }, slot + 1), label);
      button.addEventListener("click", (event) => event.detail < 2 && this.send({ kind: "change", answer: row.answer, to: kind, slot, ms: Date.now() - drawn }));
      return button;
    });
    const fold = el("details", { class: "lm-answer", "data-item": row.item },
      el("summary", {}, `${row.number}. `, text("span", "lm-clip", chosenText(row))),
      text("p", "lm-prompt", row.prompt), el("div", { class: "lm-choices", role: "group", "aria-label": "Change this answer" }, ...choices));
    fold.open = this.open.has(row.item);
    fold.addEventListener("toggle", () => this.open[fold.open ? "add" : "delete"](row.item));
    return el("li", {}, fold);
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    [...this.list.children].forEach((fold, i) => {
      const whole = [this.rows[i].prompt, ...this.rows[i].options, chosenText(this.rows[i])].join(" ").toLowerCase();
      fold.hidden = !words.every((word) => whole.includes(word));
      found += !fold.hidden;
    });
    const all = this.list.children.length;
    this.count.textContent = words.length ? `${found} of ${all}` : `${all} answers`;
  }
}
