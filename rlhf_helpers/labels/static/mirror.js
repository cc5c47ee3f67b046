// The mirror: what the model expected of the latest click, how often it guessed right, what it believes, what it would write.
// It only draws `reflection`, which a listener in Python made; every text is set with textContent.

const CHART = { width: 300, height: 96, left: 38, right: 6, top: 6, bottom: 18 };
const SVG = "http://www.w3.org/2000/svg";

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function draw(tag, attributes, content = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = content;
  return node;
}

// The parts keep their places and never shrink, so that nothing moves while one reads.
function part(name, title, ...children) {
  return el("div", { class: `lm-part lm-part-${name}` }, el("h3", {}, title), ...children);
}

// The four options with what was expected of each; words say which was guessed and which was chosen, never colour alone.
function expected(given) {
  const list = el("ol", { class: "lm-expected" });
  for (const { text: value, p, guessed, chosen } of given.options || []) {
    const marks = [guessed ? "guessed" : "", chosen ? "you" : ""].filter(Boolean);
    list.append(el("li", { class: chosen ? "lm-yours" : "" },
      text("span", "lm-clip", value),
      el("span", { class: "lm-odds" },
        el("span", { class: "lm-gauge", "aria-hidden": "true" }, el("span", { style: `width:${100 * p}%` })),
        el("span", { class: "lm-share" }, percent(p)),
        el("span", { class: "lm-tags" }, marks.join(" · ")))));
  }
  return part("expected", "What it expected", el("p", {}, given.line), list);
}

// The share guessed so far, its 95 % interval, and chance as a dashed line.
function accuracy(given) {
  const { width, height, left, right, top, bottom } = CHART;
  const count = given.rates.length;
  const x = (i) => left + (count > 1 ? i / (count - 1) : 0.5) * (width - left - right);
  const y = (share) => top + (1 - share) * (height - top - bottom);
  const along = (values) => values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
  const chart = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "lm-chart", role: "img", "aria-label": given.line });
  const band = [...along(given.highs), ...along(given.lows).reverse()];
  if (count > 1) chart.append(draw("polygon", { class: "lm-band", points: band.join(" ") }));
  for (const share of [0, 1]) {
    chart.append(draw("line", { class: "lm-rule", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
      draw("text", { class: "lm-label", x: left - 5, y: y(share) + 3, "text-anchor": "end" }, percent(share)));
  }
  chart.append(draw("line", { class: "lm-chance", x1: left, x2: width - right, y1: y(given.chance), y2: y(given.chance) }),
    draw("text", { class: "lm-label", x: left - 5, y: y(given.chance) + 3, "text-anchor": "end" }, "chance"),
    draw("polyline", { class: "lm-rate", points: along(given.rates).join(" ") }),
    draw("circle", { class: "lm-now", cx: x(count - 1), cy: y(given.rates[count - 1]), r: 3 }),
    draw("text", { class: "lm-label", x: left, y: height - 4 }, "first guess"),
    draw("text", { class: "lm-label", x: width - right, y: height - 4, "text-anchor": "end" }, `guess ${given.count}`));
  return part("accuracy", "How often it guesses right", el("p", {}, given.line), chart);
}

function belief({ what, effect, deviation }) {
  const number = `${effect < 0 ? "−" : "+"}${Math.abs(effect).toFixed(1)} ± ${deviation.toFixed(1)}`;
  return el("li", {}, text("span", "lm-what", what), " ", el("span", { class: "lm-number" }, number));
}

function beliefs(given) {
  const rows = [["You seem to like", given.more], ["and less", given.less]].filter(([, list]) => list.length);
  const lines = rows.map(([words, list]) => el("div", { class: "lm-beliefs" }, el("span", {}, `${words}:`), el("ul", {}, ...list.map(belief))));
  return part("beliefs", "What it believes", ...(lines.length ? lines : [el("p", {}, given.line)]));
}

function writes(given) {
  const texts = given.texts.map(({ prompt, text: value }) => el("blockquote", {},
    text("span", "lm-told", prompt), " ", text("span", "lm-written", value)));
  return part("writes", "What it would write for you now", ...texts, el("p", {}, given.line));
}

function mirror(given) {
  if (!given.parts) return [el("p", { class: "lm-wait" }, given.said || "")];
  const { expected: e, accuracy: a, beliefs: b, writes: w } = given.parts;
  return [e && expected(e), a && accuracy(a), b && beliefs(b), w && writes(w)].filter(Boolean);
}
