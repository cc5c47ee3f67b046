// The labelling card. Python owns the state: this file draws `view` and sends back what was pressed, with the token of what it drew.
// Begins with common.js, mirror.js and past.js.

const SETTLE_MS = 150; // a press this soon after a redraw was meant for the item before
const ALARM_MS = 2000; // no answer from the kernel for so long: say that nothing is saved yet
const RETRY_MS = 3000; // after a failed save, and while the kernel is silent
const WORKING = { undo: "Taking back …", next: "Looking …", mirror: "Switching …", review: "Looking …" }; // until the kernel has answered; else "Saving …"

function pace(minutes) {
  if (minutes === null || minutes === undefined) return "";
  return minutes < 1 ? "under a minute left" : `about ${Math.round(minutes)} min left`;
}

function header(view) {
  const words = [`${view.done} done`, `${view.total - view.done} left`];
  const time = view.state === "item" ? pace(view.minutes) : "";
  const bar = el("div", {
    class: "lm-bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": view.total, "aria-valuenow": view.done,
  }, el("div", { class: "lm-bar-done", style: `width:${(100 * view.done) / Math.max(view.total, 1)}%` }));
  return el("header", { class: "lm-head" },
    el("div", { class: "lm-meta" },
      el("span", { class: "lm-task" }, view.task),
      el("span", { class: "lm-count" }, words.join(" · "), time ? el("span", { class: "lm-pace" }, ` · ${time}`) : "")),
    bar);
}

// Whether this is what was answered before it was taken back.
function before(card, kind, slot = null) {
  const { was } = card.view;
  return Boolean(was) && was.kind === kind && was.slot === slot;
}

function option(card, value, slot) {
  const pending = card.view.pending;
  const chosen = pending && pending.kind === "choose" && pending.slot === slot;
  const was = before(card, "choose", slot);
  const button = el("button", {
    class: `lm-option${chosen ? " lm-chosen" : ""}${was ? " lm-was" : ""}`, type: "button", "aria-keyshortcuts": slot < 9 ? slot + 1 : null, "data-slot": slot,
  }, el("span", { class: "lm-key", "aria-hidden": "true" }, slot + 1), el("span", { class: "lm-sr" }, `Option ${slot + 1}: `), text("span", "lm-text", value),
  was ? el("span", { class: "lm-before" }, "your earlier choice") : "");
  button.addEventListener("click", (event) => event.detail < 2 && card.press("choose", slot));
  return button;
}

function tool(label, key, action, enabled = true, more = {}) {
  const button = el("button", { class: "lm-tool", type: "button", "aria-keyshortcuts": key, disabled: !enabled, ...more },
    label, key ? el("kbd", { "aria-hidden": "true" }, key) : "");
  button.addEventListener("click", (event) => event.detail < 2 && action());
  return button;
}

function item(card) {
  const { view } = card;
  const body = el("div", { class: "lm-body" }, el("div", { class: "lm-question" }, view.question));
  if (view.rubric) {
    const fold = el("details", { class: "lm-rubric" }, el("summary", {}, "How to choose"), el("p", {}, view.rubric));
    fold.open = card.rubricOpen;
    fold.addEventListener("toggle", () => { card.rubricOpen = fold.open; });
    body.append(fold);
  }
  if (view.prompt) body.append(text("div", "lm-prompt", view.prompt, { role: "region", "aria-label": "Prompt" }));
  const grid = el("div", { class: "lm-options", role: "group", "aria-label": view.question });
  view.options.forEach((value, slot) => grid.append(option(card, value, slot)));
  body.append(grid);
  return body;
}

function finished(view) {
  const lines = view.summary.map((line) => el("p", {}, line));
  return el("div", { class: "lm-body lm-finished" }, el("div", { class: "lm-tick", "aria-hidden": "true" }, "✓"),
    el("div", { class: "lm-question" }, "All done. Thank you!"), ...lines);
}

function elsewhere(card) {
  const { view } = card;
  const many = view.elsewhere === 1 ? "The last comparison is" : `The last ${view.elsewhere} comparisons are`;
  return el("div", { class: "lm-body lm-finished" }, el("div", { class: "lm-question" }, `${many} in another window of yours`),
    el("p", {}, "Answer there, or close that window and look again here."), tool("Look again", "", () => card.press("next")));
}

// Where the labels are saved, and what was left out.
function notes(view) {
  return text("p", "lm-notes", (view.notes || []).join(" "));
}

// Replaces the tools while a bad text is flagged: which text, what is wrong with it.
function flagForm(card) {
  const which = el("select", { class: "lm-which", "aria-label": "Which text is bad" }, el("option", { value: "" }, "All of it"));
  card.view.options.forEach((_, slot) => which.append(el("option", { value: slot }, `Option ${slot + 1}`)));
  const note = el("input", { class: "lm-note", type: "text", maxlength: 500, placeholder: "What is wrong with it?", "aria-label": "What is wrong with it" });
  const save = () => card.press("flag", which.value === "" ? null : Number(which.value), note.value);
  note.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing && !event.repeat) {
      event.preventDefault();
      save();
    }
  });
  return el("footer", { class: "lm-tools lm-flag", role: "group", "aria-label": "Flag a bad text" },
    which, note, tool("Save flag", "", save), tool("Cancel", "", () => card.flag(false)));
}

// The digit of a key, or 0. Where digits need Shift (AZERTY), the row above the letters works without it too.
function digit(event) {
  if (/^[1-9]$/.test(event.key)) return Number(event.key);
  const place = event.shiftKey ? null : /^Digit([1-9])$/.exec(event.code);
  return place ? Number(place[1]) : 0;
}

class Card {
  constructor(model, host) {
    this.model = model;
    this.line = new Line(model);
    this.rubricOpen = false;
    this.awaited = new Set(); // the numbers under which the latest press was sent: one of them has to come back
    this.status = el("div", { class: "lm-status", role: "status", "aria-live": "polite" });
    this.content = el("div", { class: "lm-content" });
    this.below = el("div", {});
    this.root = el("section", {
      class: "lm-card", tabindex: "0", role: "group", "aria-label": "Labelling card",
    }, this.content, this.status, this.below);
    this.mirror = el("section", { class: "lm-mirror", role: "group", "aria-label": "What it learns from you" });
    this.heard = el("div", { class: "lm-sr", role: "status", "aria-live": "polite" });
    this.past = new Past((message) => this.ask(message), () => this.review(false));
    host.append(this.root);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.root.addEventListener("pointermove", () => this.root.classList.add("lm-moved"));
    this.redraw = () => this.draw();
    this.reflect = () => this.drawMirror();
    model.on("change:view", this.redraw);
    model.on("change:reflection", this.reflect);
    this.outside = (event) => this.letGo(event.target);
    document.addEventListener("pointerdown", this.outside, true);
    this.draw();
    this.observer = new ResizeObserver(() => this.fit()); // also when the card first comes onto the page
    this.observer.observe(this.root);
  }

  draw() {
    const focused = this.root.contains(document.activeElement) ? document.activeElement : null;
    const before = this.view;
    const reviewed = Boolean(before && before.reviewing);
    this.view = this.model.get("view");
    const { view } = this;
    const heard = this.awaited.has(view.heard);
    if (heard) this.stopWaiting();
    const fresh = !before || before.showing !== view.showing;
    if (fresh) this.drawnAt = performance.now();
    if (fresh) this.root.classList.remove("lm-moved"); // the option that comes to lie under a resting mouse is not marked
    const flagged = this.sent && this.sent.kind === "flag" && heard && !view.error;
    if (fresh || flagged) this.form = null;
    const body = { item, done: () => finished(view), elsewhere }[view.state](this);
    this.content.replaceChildren(header(view), body, this.form || this.tools(), notes(view));
    this.drawBelow();
    this.fit();
    Object.assign(this.root.dataset, { token: view.token, done: view.done });
    if (!this.waiting) this.root.dataset.state = view.error ? "error" : view.state;
    if (view.reviewing && !reviewed) this.past.search.focus({ preventScroll: true });
    else if (focused && !this.root.contains(document.activeElement)) this.refocus(focused);
    if (this.waiting) this.mark(fresh ? null : this.choice()); // this view answers an earlier press: the latest is not saved yet
    else if (view.error) this.fail();
    else this.say(view.message || this.hint(), view.message ? "ok" : "");
    this.settle();
  }

  answerTool(label, key, kind) {
    const was = before(this, kind);
    return tool(label, key, () => this.press(kind), true, was ? { class: "lm-tool lm-was", title: "your earlier answer" } : {});
  }

  tools() {
    const { view } = this;
    const footer = el("footer", { class: "lm-tools" });
    if (view.state === "item") {
      footer.append(this.answerTool("Cannot tell", "T", "tie"), this.answerTool("Skip", "S", "skip"),
        tool("Flag", "F", () => this.flag(true)));
    }
    footer.append(el("span", { class: "lm-space" }));
    if (typeof view.mirror === "boolean") {
      footer.append(tool("What it learns", "M", () => this.look(), true, { "aria-pressed": String(view.mirror), "data-tool": "mirror" }));
    }
    footer.append(tool("Past answers", "P", () => this.review(!view.reviewing), true, { "aria-pressed": String(Boolean(view.reviewing)), "data-tool": "review" }),
      tool("Undo", "U", () => this.press("undo"), view.undo));
    return footer;
  }

  // Below the card, so that nothing above moves: what the model learns, if that is switched on, and past answers, if they are asked for.
  drawBelow() {
    const { view } = this;
    const parts = [view.mirror === true ? this.mirror : null, view.reviewing ? this.past.root : null].filter(Boolean);
    if (typeof view.mirror === "boolean" && !this.heard.isConnected) this.root.append(this.heard);
    if (parts.length !== this.below.children.length || parts.some((node, i) => this.below.children[i] !== node)) this.below.replaceChildren(...parts);
    if (view.mirror !== true) this.heard.textContent = "";
    if (view.mirror === true) this.drawMirror();
    const rows = view.reviewing ? this.model.get("answers") || [] : null;
    if (rows && JSON.stringify(rows) !== this.listed) this.past.show(rows);
    this.listed = rows && JSON.stringify(rows);
  }

  drawMirror() {
    if (this.view.mirror !== true) return;
    const given = this.model.get("reflection") || {};
    if (given === this.reflected) return;
    this.reflected = given;
    this.mirror.replaceChildren(...mirror(given));
    this.root.dataset.mirror = given.state || "";
    if (given.said && this.heard.textContent !== given.said) this.heard.textContent = given.said;
    this.fit();
  }

  look() {
    if (typeof this.view.mirror === "boolean") this.ask({ kind: "mirror", on: !this.view.mirror });
  }

  review(open) {
    this.ask({ kind: "review", open });
    if (!open) this.root.focus({ preventScroll: true });
  }

  // After a redraw: the focus stays on what is still there, goes to the new one of the same tool, or to the card.
  refocus(focused) {
    const same = focused.dataset.tool && this.content.querySelector(`[data-tool="${focused.dataset.tool}"]`);
    (same || (this.root.contains(focused) ? focused : this.root)).focus({ preventScroll: true });
  }

  // A press outside takes the focus off the card: JupyterLab does not, and its keys would go on being the card's.
  letGo(target) {
    if (!this.root.contains(target) && this.root.contains(document.activeElement)) document.activeElement.blur();
  }

  // For a moment after a redraw presses count for nothing; `data-ready` says when they do.
  settle() {
    delete this.root.dataset.ready;
    clearTimeout(this.settled);
    this.settled = setTimeout(() => { this.root.dataset.ready = this.view.token; }, Math.max(0, SETTLE_MS + 10 - (performance.now() - this.drawnAt)));
  }

  // The next item must not make anything jump: prompt, options and the whole grow with the longest so far, and never shrink back.
  fit() {
    const width = this.root.clientWidth;
    if (!width) return; // not on the page yet
    const names = ["lm-prompt", "lm-options", "lm-body", ...["expected", "accuracy", "beliefs", "writes"].map((x) => `lm-part-${x}`)];
    const parts = names.map((name) => [name, this.root.querySelector(`.${name}`)]).filter(([, part]) => part);
    if (this.width !== width) { // at another width the longest so far says nothing
      [this.width, this.heights] = [width, {}];
      for (const [, part] of parts) part.style.minHeight = "";
    }
    for (const [name, part] of parts) {
      if (name === "lm-prompt" && part.scrollHeight > part.clientHeight) { // a long one must scroll without a mouse
        part.tabIndex = 0;
        part.setAttribute(SUPPRESS, "true");
      }
      this.heights[name] = Math.max(this.heights[name] || 0, part.offsetHeight);
      part.style.minHeight = `${this.heights[name]}px`;
    }
  }

  hint() {
    if (this.view.state !== "item") return "";
    const last = Math.min(this.view.options.length, 9);
    return `Click an option, or click the card and press 1 ${last === 2 ? "or" : "to"} ${last}. Esc leaves.`;
  }

  say(message, tone = "") {
    if (this.status.textContent !== message) this.status.textContent = message;
    this.status.dataset.tone = tone;
  }

  flag(open) {
    if (open && this.view.state !== "item") return;
    this.form = open ? flagForm(this) : null;
    this.content.lastChild.replaceWith(this.form || this.tools());
    if (open) this.form.querySelector(".lm-note").focus({ preventScroll: true });
    else this.root.focus({ preventScroll: true });
  }

  press(kind, slot = null, note = "") {
    if (this.waiting || performance.now() - this.drawnAt < SETTLE_MS) return;
    if (kind === "undo" ? !this.view.undo : kind !== "next" && this.view.state !== "item") return;
    this.awaited.clear();
    this.say(WORKING[kind] || "Saving …");
    this.send({ kind, slot, note, token: this.view.token, ms: performance.now() - this.drawnAt });
    this.mark(this.choice());
  }

  // What is no answer: to switch the mirror, to list past answers, to change one. Returns whether it was sent.
  ask(message) {
    if (this.waiting || this.view.error) return false;
    this.awaited.clear();
    this.say(WORKING[message.kind] || "Saving …");
    this.send(message);
    return true;
  }

  choice() {
    return this.sent.kind === "choose" ? this.sent.slot : null;
  }

  mark(slot) {
    for (const button of this.content.querySelectorAll(".lm-option")) button.classList.toggle("lm-chosen", Number(button.dataset.slot) === slot);
  }

  send(message) {
    this.stopWaiting();
    this.waiting = true;
    this.sent = message;
    this.alarm = setTimeout(() => this.unheard(), ALARM_MS);
    try {
      this.awaited.add(this.line.send(message));
    } catch {
      this.unheard(); // the kernel was restarted: this card has nobody to talk to
    }
  }

  stopWaiting() {
    this.waiting = false;
    clearTimeout(this.alarm);
    clearTimeout(this.retry);
  }

  // The choice stays on the screen and is sent again: the token lets only one of them through.
  unheard() {
    clearTimeout(this.alarm);
    this.root.dataset.state = "silent";
    const what = ["mirror", "review"].includes(this.sent.kind) ? "Not done yet" : "Not saved yet";
    this.say(`${what}: the kernel does not answer; trying again. ${SILENT} (earlier answers are safe).`, "bad");
    this.again(this.sent);
  }

  fail() {
    this.say(`${this.view.error}. Your choice is kept; trying again …`, "bad");
    this.again({ ...this.view.pending, token: this.view.token, ms: performance.now() - this.drawnAt });
  }

  again(message) {
    this.retry = setTimeout(() => this.root.isConnected && this.send(message), RETRY_MS);
  }

  // No plain key gets out of the card (VS Code's shortcuts listen around it), but Tab and whatever is held with a modifier do.
  key(event) {
    const named = event.key.length > 1;
    if (event.ctrlKey || event.altKey || event.metaKey || event.key === "Tab" || (event.shiftKey && named)) return;
    event.stopPropagation();
    if (!event.isComposing && !event.repeat && this.act(event)) event.preventDefault();
  }

  // Returns whether the key meant something here: Enter, Space and arrows keep their usual meaning, and so does what is typed in a note.
  act(event) {
    const key = event.key.toLowerCase();
    const slot = digit(event) - 1;
    if (key === "escape" && this.form) this.flag(false);
    else if (key === "escape" && this.past.root.contains(event.target)) this.review(false);
    else if (key === "escape") leave(this.root);
    else if (event.target.closest("input, select, .lm-past")) return false;
    else if (slot >= 0 && slot < this.view.options.length) this.press("choose", slot);
    else if (key === "t") this.press("tie");
    else if (key === "s") this.press("skip");
    else if (key === "f") this.flag(true);
    else if (key === "m") this.look();
    else if (key === "p") this.review(!this.view.reviewing);
    else if (key === "u" || key === "backspace") this.press("undo");
    else return false;
    return true;
  }

  remove() {
    this.stopWaiting();
    clearTimeout(this.settled);
    this.observer.disconnect();
    this.model.off("change:view", this.redraw);
    this.model.off("change:reflection", this.reflect);
    document.removeEventListener("pointerdown", this.outside, true);
  }
}

export default {
  render({ model, el: host }) {
    const card = new Card(model, host);
    return () => card.remove();
  },
};
