// What every widget here begins with. Python puts this text before that of the widget: a widget is one module and can import no other.
// Every text is set with textContent, so nothing a model wrote is ever taken for markup.

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

// Leave a widget with Escape: the focus goes to the notebook's cell around it.
function leave(root) {
  const outside = root.closest(".jp-Cell, .jp-Notebook");
  document.activeElement.blur();
  if (outside) outside.focus({ preventScroll: true });
}
