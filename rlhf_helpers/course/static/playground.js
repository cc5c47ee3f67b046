// The playground for samples: settings on top, answers below, and what the model thought of the token under the mouse or the cursor.
// Python samples; this file draws `view` and sends the settings. Begins with common.js.

const ALARM_MS = 4000; // no answer from the kernel for so long: say so

const percent = (p) => (p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.00095 ? `${(100 * p).toFixed(1)} %` : "under 0.1 %");
const strength = (p) => (p >= 0.5 ? "likely" : p >= 0.1 ? "middling" : "rare");
const plain = (token) => token.replaceAll("\n", "↵");
const marked = (token) => plain(token).replace(/^ /, "·"); // a token's own leading space

function field(label, input) {
  return el("label", { class: "lm-field" }, el("span", { class: "lm-label" }, label), input);
}

function number(name, value, most, least = 0, step = 1) {
  return el("input", { class: "lm-input", type: "number", name, value, min: least, max: most, step });
}

class Playground {
  constructor(model, host) {
    this.model = model;
    this.line = new Line(model);
    this.here = [0, 0]; // sample and token under the cursor
    const view = model.get("view");
    this.prompt = el("textarea", { class: "lm-input", rows: 2, name: "prompt" });
    this.prompt.value = view.prompt;
    this.heat = el("input", { type: "range", name: "temperature", min: 0, max: view.hottest, step: 0.05, value: view.temperature });
    this.heatShown = el("output", { class: "lm-heat" });
    this.topK = number("top_k", view.top_k, view.vocabulary);
    this.seed = number("seed", view.seed, 2 ** 31);
    this.count = number("samples", view.samples, view.most, 1);
    this.button = el("button", { class: "lm-tool lm-go", type: "button" }, "Sample", el("kbd", { "aria-hidden": "true" }, "Ctrl+Enter"));
    this.button.addEventListener("click", () => this.ask());
    this.again = el("button", { class: "lm-tool lm-go", type: "button", title: "Other samples: the next seed" }, "Again");
    this.again.addEventListener("click", () => this.ask(true));
    this.promptLabel = el("span", { class: "lm-label" });
    this.heat.addEventListener("input", () => this.warm());
    this.answers = el("div", { class: "lm-answers" });
    this.detail = el("div", { class: "lm-detail", role: "status", "aria-live": "polite" });
    this.status = el("div", { class: "lm-status", role: "status", "aria-live": "polite" });
    this.root = el("section", { class: "lm-card lm-play", role: "group", "aria-label": "Playground for samples" },
      el("label", { class: "lm-field" }, this.promptLabel, this.prompt),
      el("div", { class: "lm-row" },
        field("Temperature", el("span", { class: "lm-slide" }, this.heat, this.heatShown)),
        field("Top-k (0: all)", this.topK), field("Seed", this.seed), field("Samples", this.count), this.button, this.again),
      this.answers, this.detail, el("p", { class: "lm-key-line" }, "Underlined: ",
        el("span", { class: "lm-token", "data-strength": "middling" }, "10 to 50 %"), ", ",
        el("span", { class: "lm-token", "data-strength": "rare" }, "under 10 %"), ". Grey: behind the end of the answer. Top-k is for looking only."),
      this.status);
    host.append(this.root);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.redraw = () => this.draw();
    model.on("change:view", this.redraw);
    this.warm();
    this.draw();
  }

  warm() {
    const value = Number(this.heat.value);
    this.heatShown.textContent = value === 0 ? "0 (greedy)" : value.toFixed(2);
  }

  draw() {
    clearTimeout(this.alarm);
    const view = (this.view = this.model.get("view"));
    this.promptLabel.textContent = `Prompt (${view.used ?? "?"} of at most ${view.limit} tokens)`;
    if (this.next && !view.error) this.seed.value = view.seed;
    const inside = this.answers.contains(document.activeElement);
    this.lists = view.results.map((sample, s) => this.list(sample, s));
    this.answers.style.minHeight = `${this.answers.offsetHeight}px`; // nothing jumps while samples come and go
    this.answers.replaceChildren(...this.lists.map((list, s) => el("div", { class: "lm-answer" },
      el("span", { class: "lm-key", "aria-hidden": "true" }, s + 1), list,
      el("span", { class: "lm-end" }, view.results[s].finished ? "" : "no end"))));
    this.here = [0, 0];
    if (this.lists.length) this.show(0, 0, inside);
    else this.detail.replaceChildren();
    this.root.removeAttribute("aria-busy");
    this.root.dataset.heard = view.heard ?? "";
    this.say(view.error, view.error ? "bad" : "");
  }

  list(sample, s) {
    const tokens = sample.tokens.map((token, t) => {
      const node = el("span", {
        class: "lm-token", role: "option", tabindex: s + t === 0 ? 0 : -1, "data-strength": strength(token.p), "data-kept": token.kept ? 1 : 0,
        "aria-selected": "false", "aria-label": `${marked(token.text)}: ${percent(token.p)}${token.kept ? "" : ", behind the end"}`,
      }, token.text);
      node.addEventListener("mouseenter", () => this.show(s, t));
      node.addEventListener("focus", () => this.show(s, t));
      return node;
    });
    return el("div", { class: "lm-text", role: "listbox", "aria-label": `Sample ${s + 1}`, "aria-orientation": "horizontal" }, ...tokens);
  }

  // Tell about one token; `focus` moves the cursor to it as well.
  show(s, t, focus = false) {
    const [oldS, oldT] = this.here;
    const before = this.lists[oldS] && this.lists[oldS].children[oldT];
    if (before) {
      before.tabIndex = -1;
      before.setAttribute("aria-selected", "false");
    }
    const node = this.lists[s].children[t];
    node.tabIndex = 0;
    node.setAttribute("aria-selected", "true");
    this.here = [s, t];
    const token = this.view.results[s].tokens[t];
    this.detail.replaceChildren(
      el("div", { class: "lm-fact" }, text("strong", "lm-word", marked(token.text)), el("span", {}, percent(token.p)),
        el("span", { class: "lm-small" }, `rank ${token.rank.toLocaleString("en")} of ${this.view.vocabulary.toLocaleString("en")} · `
          + `${(-Math.log(Math.max(token.p, 1e-30))).toFixed(2)} nats of surprise`)),
      el("ul", { class: "lm-others", "aria-label": "The likeliest tokens here" }, ...token.others.map(([word, p]) => el("li", {},
        text("span", "lm-word", marked(word)), el("span", { class: "lm-bar" }, el("span", { class: "lm-bar-done", style: `width:${100 * p}%` })),
        el("span", { class: "lm-small" }, percent(p))))));
    if (focus) node.focus({ preventScroll: true });
  }

  key(event) {
    if (event.key === "Escape") leave(this.root);
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.ask();
    else if (!event.target.classList.contains("lm-token") || event.ctrlKey || event.altKey || event.metaKey) return;
    else {
      const [s, t] = this.here;
      const last = (row) => this.lists[row].children.length - 1;
      const row = Math.min(Math.max(s + (event.key === "ArrowDown") - (event.key === "ArrowUp"), 0), this.lists.length - 1);
      const to = { ArrowRight: t + 1, ArrowLeft: t - 1, Home: 0, End: last(s), ArrowDown: t, ArrowUp: t }[event.key];
      if (to === undefined) return; // Tab and all others keep their usual meaning
      this.show(row, Math.min(Math.max(to, 0), last(row)), true);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  // `again`: other samples with the same settings.
  ask(again = false) {
    if (this.root.getAttribute("aria-busy")) return;
    this.next = again;
    this.root.setAttribute("aria-busy", "true");
    this.say("Sampling …");
    const numbers = { temperature: this.heat, top_k: this.topK, seed: this.seed, samples: this.count };
    const settings = Object.fromEntries(Object.entries(numbers).map(([name, input]) => [name, input.valueAsNumber]));
    this.alarm = setTimeout(() => this.unheard(), ALARM_MS);
    try {
      this.line.send({ ...settings, again, prompt: this.prompt.value });
    } catch {
      this.unheard();
    }
  }

  unheard() {
    this.root.removeAttribute("aria-busy"); // asking again is harmless
    this.say(`The kernel has not answered yet. ${SILENT}.`, "bad");
  }

  say(message, tone = "") {
    this.status.textContent = message;
    this.status.dataset.tone = tone;
  }

  remove() {
    clearTimeout(this.alarm);
    this.model.off("change:view", this.redraw);
  }
}

export default {
  render({ model, el: host }) {
    const playground = new Playground(model, host);
    return () => playground.remove();
  },
};
