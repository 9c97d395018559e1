// The map of all items: a canvas to move over, a legend that isolates, a field that highlights.

import { get, getBytes } from "./api.js";
import { colorAlike, colorBy, listColors, readColor, toCss } from "./colors.js";
import { heading, icon, make, say, settle, state } from "./dom.js";
import { steer } from "./mapinput.js";
import { linkTo, listAttributes, showPicture } from "./items.js";
import { DRAFT, findNearest, paint, View } from "./plot.js";
import { count, many, titleOf, words } from "./text.js";

const MOST_MARKED = 1000;
const REACH = 14; // pixels of the screen within which a point is meant
const STILL_MS = 160;
const NEAR = 6; // zoom at which one item is shown

/** Show the map. The query may hold `by`, an attribute; `q`, to highlight; `item`, to go to. */
export async function viewMap(main, _, { signal, query, facts }) {
  main.replaceChildren(heading("Map", { class: "unseen" }), make("div", { class: "map loading" }, make("p", { class: "soft" }, "The map is being drawn…")));
  const points = new Float32Array(await getBytes(["map"], { signal }));
  if (signal.aborted) return;
  if (!points.length) {
    main.replaceChildren(heading("Map"), state("There is nothing to draw", "The release has no items."));
    return;
  }
  const map = new Atlas(points, facts, signal);
  main.replaceChildren(heading("Map", { class: "unseen" }), map.element);
  map.start();
  const by = query.get("by") ?? facts.attributes[0] ?? "";
  await Promise.all([map.color(by), map.mark(query.get("q") ?? ""), map.go(query.get("item"))]);
}

/** The map on the page, and what it shows. */
class Atlas {
  #points;
  #facts;
  #signal;
  #view = null;
  #colors = null;
  #marked = []; // rows that the field found
  #alone = new Set(); // looks that the legend isolates
  #standing = null;
  #shown = -1;
  #pinned = -1; // shown unless another is pointed at
  #due = false;
  #ratio = 1;

  constructor(points, facts, signal) {
    this.#points = points;
    this.#facts = facts;
    this.#signal = signal;
    this.#colors = colorAlike(points.length / 2);
    const n = count(points.length / 2);
    this.canvas = make("canvas", {
      tabindex: "0", role: "application", "aria-describedby": "map-help",
      "aria-label": `Map of ${n} items; items that are near go together`,
    });
    this.cross = make("span", { class: "cross", "aria-hidden": "true" });
    this.ring = make("span", { class: "ring", "aria-hidden": "true", hidden: true });
    this.card = make("div", { class: "card", hidden: true });
    this.legend = make("ul", { class: "legend", "aria-label": "Colors" });
    this.found = make("p", { class: "soft found" }, "");
    this.element = make("div", { class: "map" }, this.canvas, this.cross, this.ring, this.card, this.#makePanel(), this.#makeTools(),
      make("p", { id: "map-help", class: "unseen" }, "Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the item at the cross."));
  }

  /** Begin to listen and to draw. */
  start() {
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
    this.#resize();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => { this.#fillLegend(); this.redraw(); }, { signal: this.#signal });
    steer(this, this.#signal);
  }

  /** Color by an attribute; by none for "". */
  async color(attribute) {
    const n = this.#points.length / 2;
    const known = this.#facts.attributes.includes(attribute);
    const found = known ? await colorBy(attribute, n, this.#signal) : null;
    if (this.#signal.aborted) return;
    this.#colors = found ?? colorAlike(n);
    this.#alone.clear();
    this.element.querySelector("select")?.querySelectorAll("option").forEach((option) => (option.selected = option.value === this.#colors.attribute));
    this.#fillLegend();
    this.#stand();
  }

  /** Highlight what a query finds; nothing for "". */
  async mark(query) {
    this.field.value = query;
    const answer = query.trim() ? await get(["items"], { query, k: MOST_MARKED }, { signal: this.#signal }) : { items: [] };
    if (this.#signal.aborted || this.field.value !== query) return;
    this.#marked = answer.items.map((item) => item.row);
    const full = this.#marked.length === MOST_MARKED;
    const text = query.trim() ? `${full ? "The first " : ""}${many(this.#marked.length, "item")} highlighted` : "";
    this.found.textContent = text;
    say(text);
    this.#stand();
  }

  /** Go to an item, and show it. */
  async go(id) {
    if (!id) return;
    const { row } = await get(["items", id], {}, { signal: this.#signal });
    if (this.#signal.aborted || row === undefined || 2 * row >= this.#points.length) return;
    const [width, height] = [this.canvas.width, this.canvas.height];
    this.#view.zoomBy(NEAR, width / 2, height / 2);
    this.#view.center(this.#points[2 * row], this.#points[2 * row + 1], width / 2, height / 2);
    this.redraw();
    await this.show(row, true);
  }

  /** Move and zoom, in pixels of the screen. */
  move(dx, dy) {
    this.#view.moveBy(dx * this.#ratio, dy * this.#ratio);
    this.redraw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    this.#view.zoomBy(factor, x * this.#ratio, y * this.#ratio);
    this.redraw();
  }

  fit() {
    const panel = this.element.querySelector(".panel");
    const { offsetLeft: left, offsetWidth: wide } = panel;
    const covered = 3 * wide < this.canvas.clientWidth && panel.open ? left + wide : 0;
    this.#view.fit(this.canvas.width, this.canvas.height, covered * this.#ratio);
    this.redraw();
  }

  /** The row of the point that is meant by a pixel of the screen, or -1. */
  find(x, y, reach = REACH) {
    const shown = this.#standing;
    return findNearest(this.#points, this.#view, x * this.#ratio, y * this.#ratio, reach * this.#ratio, shown);
  }

  /** Show what is at a row, or what is pinned for -1; pin: with a link to it, until another is pinned, or none. */
  async show(row, pin = false) {
    if (pin) this.#pinned = row;
    else if (row < 0) row = this.#pinned;
    const open = row >= 0 && row === this.#pinned;
    const same = row === this.#shown && open === this.card.classList.contains("open");
    this.#shown = row;
    this.ring.hidden = row < 0;
    if (row < 0) this.card.hidden = true;
    this.#placeCard();
    if (row < 0 || same) return;
    const item = await this.describe(row);
    if (row !== this.#shown || this.#signal.aborted) return;
    this.card.replaceChildren(showPicture(item), showWords(item), open ? make("a", { class: "button", href: linkTo(item.item_id) }, "Open") : "");
    this.card.classList.toggle("open", open);
    this.card.hidden = false;
    this.#placeCard();
    if (pin) say(titleOf(item));
  }

  /** What the catalog knows of a row. */
  async describe(row) {
    const { items } = await get(["map", "items"], { start: row, count: 1 }, { signal: this.#signal });
    return items[0];
  }

  /** Draw once, before the screen is shown next: a draft, and all of it once things are still. */
  redraw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      if (this.#signal.aborted) return;
      this.#paint(true);
      this.#finish();
    });
  }

  #finish = settle(() => {
    if (!this.#signal.aborted && this.#points.length > 2 * DRAFT) this.#paint();
  }, STILL_MS);

  #paint(draft = false) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const { looks } = this.#colors;
    const look = { points: this.#points, looks, standing: this.#standing, colors: listColors(dark), ratio: this.#ratio, draft };
    paint(this.canvas, this.#view, { ...look, paper: readColor("--paper"), ink: readColor("--ink") });
    this.#placeCard();
  }

  #resize() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!width || !height) return;
    this.#ratio = Math.min(2, devicePixelRatio || 1);
    const before = [this.canvas.width, this.canvas.height];
    this.canvas.width = Math.round(width * this.#ratio);
    this.canvas.height = Math.round(height * this.#ratio);
    if (this.#view === null) {
      this.#view = new View(this.#points);
      this.fit();
    } else this.#view.moveBy((this.canvas.width - before[0]) / 2, (this.canvas.height - before[1]) / 2);
    this.#paint();
  }

  #placeCard() {
    if (this.#shown < 0) return;
    const [x, y] = this.#view.locate(this.#points[2 * this.#shown], this.#points[2 * this.#shown + 1]);
    const [left, top] = [x / this.#ratio, y / this.#ratio];
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.ring.style.transform = `translate(${left}px, ${top}px)`;
    const { offsetWidth: wide, offsetHeight: tall } = this.card;
    const below = top + 16 + tall < height ? top + 16 : top - 16 - tall;
    const within = Math.max(8, Math.min(width - wide - 8, left - wide / 2));
    this.card.style.transform = `translate(${within}px, ${Math.max(8, below)}px)`;
  }

  /** Who stands back, and who stands out. */
  #stand() {
    const { looks } = this.#colors;
    this.#standing = null;
    if (this.#alone.size || this.field.value.trim()) {
      const back = this.field.value.trim() ? 0 : 1;
      this.#standing = looks.map((look) => (this.#alone.size && !this.#alone.has(look) ? 0 : back));
      for (const row of this.#marked) if (!this.#alone.size || this.#alone.has(looks[row])) this.#standing[row] = 2;
    }
    this.redraw();
  }

  #makePanel() {
    this.field = make("input", { type: "search", id: "mark", placeholder: "Words of a title", maxlength: 200, autocomplete: "off" });
    this.field.addEventListener("input", settle(() => this.mark(this.field.value).catch(tell), 150));
    const names = ["", ...this.#facts.attributes];
    const choice = make("select", { id: "color", onchange: () => this.color(choice.value).catch(tell) },
      ...names.map((name) => make("option", { value: name }, name ? words(name) : "nothing")));
    const color = this.#facts.attributes.length ? [make("label", { for: "color" }, "Color by"), choice, this.legend] : [];
    const body = make("div", { class: "panel-body" }, make("label", { for: "mark" }, "Highlight"), this.field, this.found, ...color);
    const narrow = matchMedia("(max-width: 700px)").matches;
    return make("details", { class: "panel", open: !narrow }, make("summary", {}, `${count(this.#points.length / 2)} items`), body);
  }

  #makeTools() {
    const tool = (name, label, press) => make("button", { type: "button", "aria-label": label, title: label, onclick: press }, icon(name));
    return make("div", { class: "tools", role: "group", "aria-label": "Zoom" }, tool("plus", "Zoom in", () => this.zoom(1.6)),
      tool("minus", "Zoom out", () => this.zoom(1 / 1.6)), tool("fit", "Show all", () => this.fit()));
  }

  #fillLegend() {
    const colors = listColors(matchMedia("(prefers-color-scheme: dark)").matches);
    const entries = this.#colors.legend.map(({ look, name, n }) => {
      const press = () => {
        if (!this.#alone.delete(look)) this.#alone.add(look);
        button.setAttribute("aria-pressed", String(this.#alone.has(look)));
        this.legend.classList.toggle("some", this.#alone.size > 0);
        this.#stand();
      };
      const dot = make("i", { class: "dot", "aria-hidden": "true" });
      dot.style.background = toCss(colors[look]);
      const pressed = String(this.#alone.has(look));
      const button = make("button", { type: "button", "aria-pressed": pressed, title: "Show these alone", onclick: press },
        dot, make("span", { dir: "auto" }, name), make("span", { class: "n" }, count(n)));
      return make("li", {}, button);
    });
    this.legend.replaceChildren(...entries);
    this.legend.classList.toggle("some", this.#alone.size > 0);
  }
}

function showWords(item) {
  const values = listAttributes(item).slice(0, 3).map(([, value]) => make("span", { dir: "auto" }, value));
  return make("div", { class: "what" }, make("p", { class: "title", dir: "auto" }, titleOf(item)), make("p", { class: "values" }, ...values));
}

function tell(error) {
  if (error.name !== "AbortError") say(error.message);
}
