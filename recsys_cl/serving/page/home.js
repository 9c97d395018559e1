// The first view: what the release holds, the map in small, and some items to begin with.

import { get, getBytes } from "./api.js";
import { colorAlike, colorBy, listColors, readColor } from "./colors.js";
import { heading, make, skeleton } from "./dom.js";
import { showTile } from "./items.js";
import { paint, View } from "./plot.js";
import { ago, count, many } from "./text.js";

const N_TILES = 12;
const MOST_DRAWN = 100_000; // items: a larger map is not sent for a first look

/** Show the first view. */
export async function viewHome(main, _, { signal, facts }) {
  const tiles = make("ul", { class: "tiles" });
  const start = make(
    "section",
    { class: "block", "aria-labelledby": "begin" },
    make("h2", { id: "begin" }, "Begin anywhere"),
    tiles,
  );
  const who = many(facts.n_users, "person", "people");
  const said = `${many(facts.n_items, "item")}, placed by what ${who} did ${count(facts.n_events)} times.`;
  const search = make(
    "button",
    { type: "button", class: "button accent", onclick: () => document.getElementById("query").focus() },
    "Search an item",
  );
  const small = make(
    "a",
    { class: "small-map", href: "#/map", "aria-label": "The map of all items" },
    make("canvas", { "aria-hidden": "true" }),
  );
  const words = make(
    "div",
    { class: "what" },
    heading("What goes with what"),
    make("p", { class: "lead" }, said, " Open one to see its neighbors; pick some to see what comes next."),
    make("p", { class: "actions" }, search, make("a", { class: "button", href: "#/map" }, "Wander over the map")),
    make("p", { class: "soft" }, `Release of ${ago(facts.age_seconds)}.`),
  );
  const drawn = facts.n_items <= MOST_DRAWN;
  main.replaceChildren(make("section", { class: drawn ? "hero" : "hero alone" }, words, drawn ? small : null), start);
  tiles.replaceWith(skeleton(4));
  const count_ = Math.min(N_TILES, facts.n_items);
  const first = Math.floor(Math.random() * (facts.n_items - count_ + 1));
  const { items } = await get(["map", "items"], { start: first, count: count_ }, { signal });
  if (signal.aborted) return;
  start.querySelector("ol").replaceWith(make("ul", { class: "tiles" }, ...items.map(showTile)));
  if (drawn) await drawSmall(small.firstChild, facts, signal);
}

async function drawSmall(canvas, facts, signal) {
  const points = new Float32Array(await getBytes(["map"], { signal }));
  const n = points.length / 2;
  const found = facts.attributes.length ? await colorBy(facts.attributes[0], n, signal) : null;
  const { looks } = found ?? colorAlike(n);
  const view = new View(points);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => {
    const ratio = Math.min(2, devicePixelRatio || 1);
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    if (!canvas.width || !canvas.height) return;
    const look = { points, looks, standing: null, colors: listColors(dark.matches), ratio };
    view.fit(canvas.width, canvas.height);
    paint(canvas, view, { ...look, paper: readColor("--paper"), ink: readColor("--ink") });
  };
  if (signal.aborted) return;
  dark.addEventListener("change", redraw, { signal });
  new ResizeObserver(redraw).observe(canvas);
}
