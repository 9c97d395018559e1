// Items as the page shows them: come in as the service answers them, go out as rows and tiles with links and buttons.

import { findPicture } from "./api.js";
import { icon, make, say } from "./dom.js";
import * as session from "./session.js";
import { figure, titleOf } from "./text.js";

const NO_ATTRIBUTES = new Set(["item_id", "title", "image", "score", "rank", "space", "why", "row"]);
const MOST_SHOWN = 4; // attributes in a row

addEventListener("session", () => document.querySelectorAll("button.add").forEach(markButton));

/** The address of an item's view. */
export function linkTo(id) {
  return `#/item/${encodeURIComponent(id)}`;
}

/** Names and values of an item's attributes. */
export function listAttributes(item) {
  return Object.entries(item).filter(([name, value]) => !NO_ATTRIBUTES.has(name) && value !== null);
}

/** An item's picture, or its first letter; side: of the picture that is asked for, in pixels. */
export function showPicture(item, side = 128) {
  const box = make("span", { class: "pic", "aria-hidden": "true" });
  const letter = () => box.replaceChildren(Array.from(titleOf(item))[0]?.toUpperCase() ?? "");
  if (!item.image) {
    letter();
    return box;
  }
  const image = make("img", {
    alt: "",
    loading: "lazy",
    decoding: "async",
    width: side,
    height: side,
    onerror: letter,
  });
  findPicture(`${item.image}?side=${side}`).then((source) => (image.src = source), letter);
  box.append(image);
  return box;
}

/** A button that puts an item into the session and takes it out. */
export function addButton(item) {
  const press = () => {
    session.toggle(item);
    say(`${titleOf(item)} is ${session.holds(item.item_id) ? "in the session" : "no longer in the session"}`);
  };
  const button = make("button", { type: "button", class: "add", "data-id": item.item_id, onclick: press });
  button.dataset.title = titleOf(item);
  markButton(button);
  return button;
}

/** An item of an answer as a row; most: the score that fills the bar; notes: what else is said of it. */
export function showRow(item, { most = 0, notes = [], lead = item.rank } = {}) {
  return make(
    "li",
    { class: "row", "data-id": item.item_id },
    make("span", { class: "rank" }, String(lead ?? "")),
    showPicture(item),
    make("div", { class: "what" }, showTitle(item), showValues(item), ...notes),
    item.score === undefined ? null : showScore(item.score, most),
    addButton(item),
  );
}

/** An item as a tile of a grid. */
export function showTile(item) {
  const what = make("div", { class: "what" }, showTitle(item), showValues(item, 2));
  return make("li", { class: "tile", "data-id": item.item_id }, showPicture(item, 256), what, addButton(item));
}

/** Rows of an answer, best first. notesOf: what else is said of an item. */
export function showRows(items, notesOf = () => []) {
  const most = Math.max(...items.map((item) => item.score), 0);
  return make("ol", { class: "rows" }, ...items.map((item) => showRow(item, { most, notes: notesOf(item) })));
}

/** A link to an item with its title. */
export function showTitle(item) {
  return make("a", { class: "title", href: linkTo(item.item_id), dir: "auto" }, titleOf(item));
}

function showValues(item, most = MOST_SHOWN) {
  const shown = listAttributes(item).slice(0, most);
  if (!shown.length) return null;
  const values = shown.map(([name, value]) =>
    make("span", { dir: "auto" }, make("span", { class: "unseen" }, `${name}: `), value),
  );
  return make("p", { class: "values" }, ...values);
}

function showScore(score, most) {
  const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
  bar.firstChild.style.width = `${most > 0 ? Math.max(0, Math.min(100, (100 * score) / most)) : 0}%`;
  return make("div", { class: "score" }, make("span", { class: "unseen" }, "score "), figure(score), bar);
}

function markButton(button) {
  const held = session.holds(button.dataset.id);
  if (button.getAttribute("aria-pressed") === String(held)) return;
  button.setAttribute("aria-pressed", held);
  button.setAttribute("aria-label", `${button.dataset.title}: in the session`);
  button.title = held ? "Take out of the session" : "Add to the session";
  button.replaceChildren(icon(held ? "check" : "plus"));
}
