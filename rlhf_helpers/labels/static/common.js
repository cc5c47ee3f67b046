// What every widget here begins with. Python puts this text before that of the widget: a widget is one module and can import no other.
// Every text is set with textContent, so nothing a model wrote is ever taken for markup.

const SUPPRESS = "data-lm-suppress-shortcuts"; // JupyterLab looks at the focused element first, and only then at those around it
const FOCUSABLE = ["button", "input", "select", "summary", "textarea"];

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  if (FOCUSABLE.includes(tag) || "tabindex" in attributes) node.setAttribute(SUPPRESS, "true");
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

// Leave a widget with Escape: the focus goes to the notebook's cell around it.
function leave(root) {
  const outside = root.closest(".jp-Cell, .jp-Notebook");
  document.activeElement.blur();
  if (outside) outside.focus({ preventScroll: true });
}

// Messages to Python are numbered, so that Python can say which one it heard.
class Line {
  constructor(model) {
    this.model = model;
    this.number = Math.floor(Math.random() * 1e9);
  }

  send(message) {
    this.number += 1;
    this.model.send({ ...message, number: this.number });
    return this.number;
  }
}

// JupyterLab (4.6) goes on naming a subshell of the old kernel when somebody else restarts it, until the page is loaded again.
const SILENT = "It may be busy. If it was restarted, run this cell again; if that does not help, reload the page";
