// What stands on and beside the map: canvas, a panel to highlight and to color, buttons to zoom, a card for an item.

import { listColors, toCss } from "./colors.js";
import { icon, make, settle } from "./dom.js";
import { linkTo, listAttributes, showPicture } from "./items.js";
import { count, many, titleOf, words } from "./text.js";

const QUIET_MS = 150;
const HELP = "Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the item at the cross.";

/** The parts of a map of n items, by name. act: what to do, `{mark, color, zoom, fit}`. */
export function makeFrame(n, attributes, act) {
  const canvas = make("canvas", {
    tabindex: "0",
    role: "application",
    "aria-describedby": "map-help",
    "aria-label": `Map of ${many(n, "item")}; items that are near go together`,
  });
  const parts = {
    canvas,
    ring: make("span", { class: "ring", "aria-hidden": "true", hidden: true }),
    card: make("div", { class: "card", hidden: true }),
    legend: make("ul", { class: "legend", "aria-label": "Colors" }),
    found: make("p", { class: "soft found" }),
    field: makeField(act.mark),
    choice: makeChoice(attributes, act.color),
  };
  const panel = makePanel(n, parts, attributes.length > 0);
  const cross = make("span", { class: "cross", "aria-hidden": "true" });
  const help = make("p", { id: "map-help", class: "unseen" }, HELP);
  const element = make("div", { class: "map" }, canvas, cross, parts.ring, parts.card, panel, makeTools(act), help);
  return { ...parts, panel, element };
}

/** Show which color means what. alone: the looks that are isolated; changed: called when somebody changes that. */
export function fillLegend(list, legend, alone, changed) {
  const colors = listColors(matchMedia("(prefers-color-scheme: dark)").matches);
  const entries = legend.map(({ look, name, n }) => {
    const press = () => {
      if (!alone.delete(look)) alone.add(look);
      button.setAttribute("aria-pressed", String(alone.has(look)));
      list.classList.toggle("some", alone.size > 0);
      changed();
    };
    const dot = make("i", { class: "dot", "aria-hidden": "true" });
    dot.style.background = toCss(colors[look]);
    const button = make(
      "button",
      { type: "button", "aria-pressed": String(alone.has(look)), title: "Show these alone", onclick: press },
      dot,
      make("span", { dir: "auto" }, name),
      make("span", { class: "n" }, count(n)),
    );
    return make("li", {}, button);
  });
  list.replaceChildren(...entries);
  list.classList.toggle("some", alone.size > 0);
}

/** Show an item on the card; open: with a link to it. */
export function fillCard(card, item, open) {
  const values = listAttributes(item)
    .slice(0, 3)
    .map(([, value]) => make("span", { dir: "auto" }, value));
  const title = make("p", { class: "title", dir: "auto" }, titleOf(item));
  const link = open ? make("a", { class: "button", href: linkTo(item.item_id) }, "Open") : "";
  const what = make("div", { class: "what" }, title, make("p", { class: "values" }, ...values));
  card.replaceChildren(showPicture(item), what, link);
  card.classList.toggle("open", open);
  card.hidden = false;
}

function makeField(mark) {
  const about = { type: "search", id: "mark", placeholder: "Words of a title", maxlength: 200, autocomplete: "off" };
  const field = make("input", about);
  field.addEventListener(
    "input",
    settle(() => mark(field.value), QUIET_MS),
  );
  return field;
}

function makeChoice(attributes, color) {
  const options = ["", ...attributes].map((name) => make("option", { value: name }, name ? words(name) : "nothing"));
  const choice = make("select", { id: "color", onchange: () => color(choice.value) }, ...options);
  return choice;
}

function makePanel(n, { field, found, choice, legend }, colored) {
  const highlight = [make("label", { for: "mark" }, "Highlight"), field, found];
  const color = colored ? [make("label", { for: "color" }, "Color by"), choice, legend] : [];
  const body = make("div", { class: "panel-body" }, ...highlight, ...color);
  const open = !matchMedia("(max-width: 700px)").matches;
  return make("details", { class: "panel", open }, make("summary", {}, many(n, "item")), body);
}

function makeTools({ zoom, fit }) {
  const tool = (name, label, press) =>
    make("button", { type: "button", "aria-label": label, title: label, onclick: press }, icon(name));
  return make(
    "div",
    { class: "tools", role: "group", "aria-label": "Zoom" },
    tool("plus", "Zoom in", () => zoom(1.6)),
    tool("minus", "Zoom out", () => zoom(1 / 1.6)),
    tool("fit", "Show all", fit),
  );
}
