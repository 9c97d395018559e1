// The map of all items: a canvas to move over, a legend that isolates, a field that highlights.

import { get, getBytes, Problem } from "./api.js";
import { colorAlike, colorBy, listColors, readColor } from "./colors.js";
import { heading, make, say, settle, state } from "./dom.js";
import { clampK } from "./limits.js";
import { fillCard, fillLegend, makeFrame } from "./mapframe.js";
import { steer } from "./mapinput.js";
import { Grid } from "./nearest.js";
import { DRAFT, paint, View } from "./plot.js";
import { many, titleOf } from "./text.js";

const MOST_MARKED = 1000;
const REACH = 14; // pixels of the screen within which a point is meant
const STILL_MS = 160;
const REST_MS = 60; // that a pointer rests on a point before the service is asked what it is
const NEAR = 6; // zoom at which one item is shown

/** Show the map. The query may hold `by`, an attribute; `q`, to highlight; `item`, to go to. */
export async function viewMap(main, _, { signal, query, facts }) {
  main.replaceChildren(
    heading("Map", { class: "unseen" }),
    make("div", { class: "map loading" }, make("p", { class: "soft" }, "The map is being drawn…")),
  );
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
  #frame;
  #view = null;
  #grid = null; // made when somebody first points
  #colors = null;
  #marked = []; // rows that the field found
  #alone = new Set(); // looks that the legend isolates
  #standing = null;
  #shown = -1;
  #turn = 0; // counts what is to be shown: who waits for a pointer to rest, and is no longer the last, gives up
  #pinned = -1; // shown unless another is pointed at
  #due = false;
  #ratio = 1;

  constructor(points, facts, signal) {
    this.#points = points;
    this.#facts = facts;
    this.#signal = signal;
    this.#colors = colorAlike(points.length / 2);
    this.#frame = makeFrame(points.length / 2, facts.attributes, {
      mark: (query) => this.mark(query).catch(tell),
      color: (attribute) => this.color(attribute).catch(tell),
      zoom: (factor) => this.zoom(factor),
      fit: () => this.fit(),
    });
    this.canvas = this.#frame.canvas;
    this.element = this.#frame.element;
  }

  /** Begin to listen and to draw. */
  start() {
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
    this.#resize();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener(
      "change",
      () => {
        this.#fillLegend();
        this.redraw();
      },
      { signal: this.#signal },
    );
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
    this.#frame.choice.value = this.#colors.attribute;
    this.#fillLegend();
    this.#stand();
  }

  /** Highlight what a query finds; nothing for "". */
  async mark(query) {
    this.#frame.field.value = query;
    const k = clampK(MOST_MARKED, this.#facts);
    const answer = query.trim() ? await this.#find(query, k) : { items: [] };
    if (this.#signal.aborted || this.#frame.field.value !== query) return;
    this.#marked = answer.items.map((item) => item.row);
    const full = this.#marked.length === k;
    const found = `${full ? "The first " : ""}${many(this.#marked.length, "item")} highlighted`;
    const text = answer.refused ?? (query.trim() ? found : "");
    this.#frame.found.textContent = text;
    say(text);
    this.#stand();
  }

  /** What a query finds; nothing, and why, where the service refuses it: the map is there all the same. */
  async #find(query, k) {
    try {
      return await get(["items"], { query, k }, { signal: this.#signal });
    } catch (error) {
      if (!(error instanceof Problem) || error.status === 401) throw error;
      return { items: [], refused: error.message };
    }
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
    const { offsetLeft: left, offsetWidth: wide, open } = this.#frame.panel;
    const covered = 3 * wide < this.canvas.clientWidth && open ? left + wide : 0;
    this.#view.fit(this.canvas.width, this.canvas.height, covered * this.#ratio);
    this.redraw();
  }

  /** The row of the point that is meant by a pixel of the screen, or -1. */
  find(x, y, reach = REACH) {
    this.#grid ??= new Grid(this.#points, this.#view.bounds);
    return this.#grid.find(this.#view, x * this.#ratio, y * this.#ratio, reach * this.#ratio, this.#standing);
  }

  /** Show what is at a row, or what is pinned for -1; pin: with a link to it, until another is pinned, or none. */
  async show(row, pin = false) {
    if (pin) this.#pinned = row;
    else if (row < 0) row = this.#pinned;
    const open = row >= 0 && row === this.#pinned;
    const { hidden, classList } = this.#frame.card;
    const same = row === this.#shown && !hidden && open === classList.contains("open");
    const turn = (this.#turn += 1);
    this.#shown = row;
    this.#frame.ring.hidden = row < 0;
    if (row < 0 || !same) this.#frame.card.hidden = true; // it is of another item
    this.#placeCard();
    if (row < 0 || same) return;
    if (!pin) await new Promise((done) => setTimeout(done, REST_MS));
    if (turn !== this.#turn || this.#signal.aborted) return;
    const item = await this.describe(row);
    if (row !== this.#shown || open !== (row === this.#pinned) || this.#signal.aborted) return;
    fillCard(this.#frame.card, item, open);
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
    const look = {
      points: this.#points,
      looks,
      standing: this.#standing,
      colors: listColors(dark),
      ratio: this.#ratio,
      draft,
    };
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
    this.#frame.ring.style.transform = `translate(${left}px, ${top}px)`;
    const { offsetWidth: wide, offsetHeight: tall } = this.#frame.card;
    const below = top + 16 + tall < height ? top + 16 : top - 16 - tall;
    const within = Math.max(8, Math.min(width - wide - 8, left - wide / 2));
    this.#frame.card.style.transform = `translate(${within}px, ${Math.max(8, below)}px)`;
  }

  /** Who stands back, and who stands out. */
  #stand() {
    const { looks } = this.#colors;
    this.#standing = null;
    if (this.#alone.size || this.#frame.field.value.trim()) {
      const back = this.#frame.field.value.trim() ? 0 : 1;
      this.#standing = looks.map((look) => (this.#alone.size && !this.#alone.has(look) ? 0 : back));
      for (const row of this.#marked) if (!this.#alone.size || this.#alone.has(looks[row])) this.#standing[row] = 2;
    }
    this.redraw();
  }

  #fillLegend() {
    fillLegend(this.#frame.legend, this.#colors.legend, this.#alone, () => this.#stand());
  }
}

function tell(error) {
  if (error.name !== "AbortError") say(error.message);
}
