// Elements of the page: come in as names, properties and texts, go out as nodes. Texts become text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  plus: ["M12 5v14M5 12h14"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  minus: ["M5 12h14"],
  close: ["M6 6l12 12M18 6L6 18"],
  search: ["M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z", "M15.5 15.5L20 20"],
  fit: ["M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5"],
  right: ["M5 12h14M13 6l6 6-6 6"],
};

/** An element. Properties: `onclick` and its like listen, true and false set and leave out, all else are attributes. */
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An element of a drawing. */
export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** One of the page's icons, which says nothing to those who do not see it. */
export function icon(name) {
  const strokes = ICONS[name].map((d) => draw("path", { d }));
  return draw("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, ...strokes);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Tell those who do not see the page what has changed on it. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** The heading of a view; it takes the focus when the view opens. */
export function heading(text, properties = {}) {
  return make("h1", { tabindex: "-1", dir: "auto", ...properties }, text);
}

/** A state of a part of the page: nothing there, or trouble; and what to do. */
export function state(title, detail, ...actions) {
  const buttons = actions.length ? make("p", { class: "actions" }, ...actions) : null;
  return make("div", { class: "state" }, make("p", { class: "state-title" }, title), make("p", {}, detail), buttons);
}

/** Rows that stand where an answer will. */
export function skeleton(n) {
  const rows = Array.from({ length: n }, () => make("li", { class: "row" }, make("span", { class: "bone" })));
  return make("ol", { class: "rows", "aria-hidden": "true" }, ...rows);
}

/** Call it once things have been quiet for some milliseconds. */
export function settle(call, ms) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), ms);
  };
}
