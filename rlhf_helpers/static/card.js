// The labelling card. Python owns the state: this file draws `view` and sends back what was pressed, with the token of what it drew.
// Every text is set with textContent, so nothing a model wrote is ever taken for markup.

const SETTLE_MS = 150; // a press this soon after a redraw was meant for the item before
const ALARM_MS = 2000; // no answer from the kernel for so long: say that nothing is saved yet
const RETRY_MS = 3000; // after a failed save

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// Hidden characters arrive from Python as [U+202E]; they are set apart, so that they read as marks and not as the model's words.
function text(tag, className, value, attributes = {}) {
  const node = el(tag, { class: className, dir: "auto", ...attributes });
  for (const part of value.split(/(\[U\+[0-9A-F]{4,6}\])/)) {
    node.append(/^\[U\+[0-9A-F]{4,6}\]$/.test(part) ? el("span", { class: "lm-mark" }, part) : part);
  }
  return node;
}

function pace(minutes) {
  if (minutes === null || minutes === undefined) return "";
  return minutes < 1 ? "under a minute left" : `about ${Math.round(minutes)} min left`;
}

function header(view) {
  const left = view.state === "done" ? "" : pace(view.minutes);
  const shown = view.state === "done" ? view.total : Math.min(view.done + 1, view.total);
  const bar = el("div", {
    class: "lm-bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": view.total, "aria-valuenow": view.done,
  }, el("div", { class: "lm-bar-done", style: `width:${(100 * view.done) / Math.max(view.total, 1)}%` }));
  return el("header", { class: "lm-head" },
    el("div", { class: "lm-meta" },
      el("span", { class: "lm-task" }, view.task),
      el("span", { class: "lm-count" }, `${shown} of ${view.total}`, left ? el("span", { class: "lm-pace" }, ` · ${left}`) : "")),
    bar);
}

function option(card, value, slot) {
  const chosen = card.view.pending && card.view.pending.kind === "choose" && card.view.pending.slot === slot;
  const label = text("span", "lm-text", value);
  const button = el("button", {
    class: `lm-option${chosen ? " lm-chosen" : ""}`, type: "button", "aria-keyshortcuts": slot < 9 ? slot + 1 : null, "data-slot": slot,
  }, el("span", { class: "lm-key", "aria-hidden": "true" }, slot + 1), el("span", { class: "lm-sr" }, `Option ${slot + 1}: `), label);
  button.addEventListener("click", (event) => event.detail < 2 && card.press("choose", slot));
  return button;
}

function tool(card, kind, label, key, enabled = true) {
  const button = el("button", { class: `lm-tool lm-${kind}`, type: "button", "aria-keyshortcuts": key, disabled: !enabled },
    label, el("kbd", { "aria-hidden": "true" }, key));
  button.addEventListener("click", (event) => event.detail < 2 && card.press(kind));
  return button;
}

function item(card) {
  const { view } = card;
  const body = el("div", { class: "lm-body" }, el("h3", { class: "lm-question" }, view.question));
  if (view.rubric) {
    const fold = el("details", { class: "lm-rubric" }, el("summary", {}, "How to choose"), el("p", {}, view.rubric));
    fold.open = card.rubricOpen;
    fold.addEventListener("toggle", () => { card.rubricOpen = fold.open; });
    body.append(fold);
  }
  if (view.prompt) body.append(text("div", "lm-prompt", view.prompt, { role: "region", "aria-label": "Prompt" }));
  const grid = el("div", { class: "lm-options", role: "group", "aria-label": "Options" });
  view.options.forEach((value, slot) => grid.append(option(card, value, slot)));
  body.append(grid);
  return body;
}

function finished(view) {
  const lines = view.summary.map((line) => el("p", {}, line));
  return el("div", { class: "lm-body lm-finished" }, el("div", { class: "lm-tick", "aria-hidden": "true" }, "✓"),
    el("h3", { class: "lm-question" }, "All done. Thank you!"), ...lines);
}

class Card {
  constructor(model, host) {
    this.model = model;
    this.rubricOpen = false;
    this.number = Math.floor(Math.random() * 1e9); // of messages sent; Python says which one it heard
    this.height = 0;
    this.status = el("div", { class: "lm-status", role: "status", "aria-live": "polite" });
    this.content = el("div", { class: "lm-content" });
    this.root = el("section", {
      class: "lm-card", tabindex: "0", role: "group", "aria-label": "Labelling card", "data-lm-suppress-shortcuts": "true",
    }, this.content, this.status);
    host.append(this.root);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.redraw = () => this.draw();
    model.on("change:view", this.redraw);
    this.draw();
  }

  draw() {
    const hadFocus = this.root.contains(document.activeElement);
    const before = this.view;
    this.view = this.model.get("view");
    clearTimeout(this.alarm);
    clearTimeout(this.retry);
    this.waiting = false;
    if (!before || before.token !== this.view.token) this.drawnAt = performance.now();
    const { view } = this;
    const tools = el("footer", { class: "lm-tools" });
    if (view.state === "item") tools.append(tool(this, "tie", "Cannot tell", "T"), tool(this, "skip", "Skip", "S"));
    tools.append(el("span", { class: "lm-space" }), tool(this, "undo", "Undo", "U", view.undo));
    this.content.replaceChildren(header(view), view.state === "item" ? item(this) : finished(view), tools);
    const prompt = this.content.querySelector(".lm-prompt");
    if (prompt && prompt.scrollHeight > prompt.clientHeight) prompt.tabIndex = 0; // a long one must scroll without a mouse
    this.keepHeight();
    this.root.dataset.token = view.token;
    this.root.dataset.done = view.done;
    this.root.dataset.state = view.error ? "error" : view.state;
    if (hadFocus) this.root.focus({ preventScroll: true });
    if (view.error) this.fail();
    else this.say(view.message || this.hint(), view.message ? "ok" : "");
  }

  // The next item must not make the buttons jump: the card grows with the longest item so far, and never shrinks back.
  keepHeight() {
    const body = this.content.querySelector(".lm-body");
    if (this.width !== this.root.clientWidth) [this.width, this.height] = [this.root.clientWidth, 0];
    this.height = Math.max(this.height, body.offsetHeight);
    body.style.minHeight = `${this.height}px`;
  }

  hint() {
    if (this.view.state !== "item") return "";
    const last = Math.min(this.view.options.length, 9);
    return `Click an option, or click the card and press 1 ${last === 2 ? "or" : "to"} ${last}. Esc leaves.`;
  }

  say(message, tone = "") {
    this.status.textContent = message;
    this.status.dataset.tone = tone;
  }

  fail() {
    this.say(`${this.view.error}. Your choice is kept; trying again …`, "bad");
    const { pending, token } = this.view;
    this.retry = setTimeout(() => this.root.isConnected && this.send(pending.kind, pending.slot, token), RETRY_MS);
  }

  press(kind, slot = null) {
    if (this.waiting || performance.now() - this.drawnAt < SETTLE_MS) return;
    if (kind === "undo" ? !this.view.undo : this.view.state !== "item") return;
    if (kind === "choose") this.mark(slot);
    this.send(kind, slot, this.view.token);
  }

  mark(slot) {
    for (const button of this.content.querySelectorAll(".lm-option")) button.classList.toggle("lm-chosen", Number(button.dataset.slot) === slot);
  }

  send(kind, slot, token) {
    this.waiting = true;
    this.number += 1;
    clearTimeout(this.retry);
    this.alarm = setTimeout(() => this.unheard(), ALARM_MS);
    try {
      this.model.send({ kind, slot, token, number: this.number, ms: performance.now() - this.drawnAt });
    } catch {
      this.unheard(); // the kernel was restarted: this card has nobody to talk to
    }
  }

  unheard() {
    this.waiting = false; // a second press is harmless: the token lets only one through
    this.root.dataset.state = "silent";
    this.say("Not saved yet: the kernel does not answer. It may be busy; if it was restarted, run this cell again (earlier answers are safe).", "bad");
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
    const key = event.key.toLowerCase();
    const slot = /^[1-9]$/.test(key) ? Number(key) - 1 : -1;
    if (key === "escape") this.leave();
    else if (slot >= 0 && slot < this.view.options.length) this.press("choose", slot);
    else if (key === "t") this.press("tie");
    else if (key === "s") this.press("skip");
    else if (key === "u" || key === "backspace") this.press("undo");
    else return; // Tab, Enter, Space and arrows keep their usual meaning
    event.preventDefault();
    event.stopPropagation();
  }

  leave() {
    const outside = this.root.closest(".jp-Cell, .jp-Notebook");
    document.activeElement.blur();
    if (outside) outside.focus({ preventScroll: true });
  }

  remove() {
    clearTimeout(this.alarm);
    clearTimeout(this.retry);
    this.model.off("change:view", this.redraw);
  }
}

export default {
  render({ model, el: host }) {
    const card = new Card(model, host);
    return () => card.remove();
  },
};
