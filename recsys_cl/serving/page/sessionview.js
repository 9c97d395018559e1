// The view of the session: its items, and beside them what is recommended, which changes with them.

import { get } from "./api.js";
import { draw, heading, icon, make, say, skeleton, state } from "./dom.js";
import { linkTo, showPicture, showRow, showTile, showTitle } from "./items.js";
import { clampHistory, clampK } from "./limits.js";
import { recommend } from "./recommend.js";
import * as session from "./session.js";
import { count, many, percent, titleOf } from "./text.js";

const K = 12;
const N_SUGGESTED = 8;

/** Show the session until the signal. */
export async function viewSession(main, _, { signal, facts, fail }) {
  const picked = make("section", { class: "picked", "aria-label": "Items of the session" });
  const next = make("section", { class: "next", "aria-labelledby": "next" });
  main.replaceChildren(
    heading("Session"),
    make("p", { class: "lead" }, "Pick items, and see what goes with them."),
    make("div", { class: "session" }, picked, next),
  );
  const shown = new Recommendations(next, facts, signal);
  let first = Promise.resolve();
  session.follow(() => {
    showPicked(picked);
    first = session.getItems().length ? shown.ask() : suggest(next, facts, signal);
    first.catch((error) => fail(error, next));
  }, signal);
  await first.catch(() => {});
}

function showPicked(place) {
  const items = session.getItems();
  const focused = place.contains(document.activeElement);
  const rows = items.map((item) =>
    make("li", { class: "pick", "data-id": item.item_id }, showPicture(item), showTitle(item), dropButton(item)),
  );
  const clear = make("button", { type: "button", class: "plain", onclick: session.clear }, "Clear");
  place.replaceChildren(
    make("header", {}, make("h2", {}, many(items.length, "item")), items.length ? clear : ""),
    items.length ? make("ol", { class: "picks" }, ...rows) : make("p", { class: "soft" }, "Nothing is picked yet."),
  );
  if (focused) (place.querySelector("button.drop") ?? document.querySelector("h1"))?.focus();
}

function dropButton(item) {
  const drop = () => {
    session.remove([item.item_id]);
    say(`${titleOf(item)} is no longer in the session`);
  };
  const label = `Take ${titleOf(item)} out of the session`;
  return make("button", { type: "button", class: "drop", "aria-label": label, onclick: drop }, icon("close"));
}

/** Where nothing is picked: some items to begin with. */
async function suggest(place, facts, signal) {
  const most = Math.max(0, facts.n_items - N_SUGGESTED);
  const start = Math.floor(Math.random() * (most + 1));
  const { items } = await get(["map", "items"], { start, count: N_SUGGESTED }, { signal });
  if (signal.aborted || session.getItems().length) return;
  place.replaceChildren(
    make("h2", { id: "next" }, "Begin with one of these"),
    make("p", { class: "soft" }, "Or search an item, and press its plus."),
    make("ul", { class: "tiles" }, ...items.map(showTile)),
  );
}

/** The list of recommendations, which knows where each stood before. */
class Recommendations {
  #place;
  #facts;
  #signal;
  #asking = null;
  #ranks = null;

  constructor(place, facts, signal) {
    this.#place = place;
    this.#facts = facts;
    this.#signal = signal;
  }

  async ask() {
    this.#asking?.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#signal, this.#asking.signal]);
    if (!this.#place.querySelector("ol.rows")) this.#place.replaceChildren(this.#showHead(), skeleton(8));
    this.#place.setAttribute("aria-busy", "true");
    const answer = await recommend(clampK(Math.min(K, this.#facts.n_items), this.#facts), this.#facts, signal);
    if (answer && !signal.aborted) this.#show(answer.items);
  }

  #showHead() {
    const title = make("h2", { id: "next" }, "Recommended next");
    const n = session.getItems().length;
    const asked = clampHistory(n, this.#facts);
    const from = asked < n ? `From the newest ${count(asked)} items: the service takes no more. ` : "";
    return make("header", {}, title, make("p", { class: "soft" }, `${from}Add one to see the others move.`));
  }

  #show(items) {
    const focus = this.#findFocus();
    const before = new Map(
      Array.from(this.#place.querySelectorAll("li.row[data-id]"), (row) => [row.dataset.id, row.offsetTop]),
    );
    const most = Math.max(...items.map((item) => item.score), 0);
    const rows = items.map((item) => showRow(item, { most, notes: [showWhy(item)] }));
    rows.forEach((row, n) => row.querySelector(".rank").append(this.#showMove(items[n]) ?? ""));
    const list = make("ol", { class: "rows" }, ...rows);
    const none = state("Nothing is left to recommend", "The session holds all items. Take some out.");
    this.#place.removeAttribute("aria-busy");
    this.#place.replaceChildren(this.#showHead(), items.length ? list : none);
    if (focus >= 0) rows[Math.min(focus, rows.length - 1)]?.querySelector("button.add")?.focus({ preventScroll: true });
    if (this.#ranks) slide(rows, before);
    this.#ranks = new Map(items.map((item) => [item.item_id, item.rank]));
    say(
      items.length ? `Recommended next: ${items.slice(0, 3).map(titleOf).join("; ")}` : "Nothing is left to recommend",
    );
  }

  #findFocus() {
    return Array.from(this.#place.querySelectorAll("li.row")).findIndex((row) => row.contains(document.activeElement));
  }

  #showMove(item) {
    if (!this.#ranks) return null;
    const before = this.#ranks.get(item.item_id);
    if (before === undefined) return make("span", { class: "move new" }, "new");
    const up = before - item.rank;
    if (!up) return null;
    const label = `${up > 0 ? "up" : "down"} ${Math.abs(up)}`;
    const arrow = up > 0 ? "↑" : "↓";
    return make("span", { class: "move", role: "img", "aria-label": label }, `${arrow}${Math.abs(up)}`);
  }
}

/** Which items brought it, with their shares as a bar and in words. */
function showWhy(item) {
  const titles = new Map(session.getItems().map((one) => [one.item_id, titleOf(one)]));
  const named = (item.why ?? []).filter((one) => one.share >= 0.005);
  if (!named.length) return null;
  let x = 0;
  const parts = named.map(({ share }, n) => {
    const gap = x + 100 * share > 99 ? 0 : 0.8; // to the next
    const part = draw("rect", { x, y: 0, width: Math.max(0, 100 * share - gap), height: 4, class: `part-${n}` });
    x += 100 * share;
    return part;
  });
  const bar = draw(
    "svg",
    { viewBox: "0 0 100 4", preserveAspectRatio: "none", class: "shares", "aria-hidden": "true" },
    ...parts,
  );
  const said = named
    .slice(0, 3)
    .map(({ item_id, share }, n) =>
      make(
        "span",
        {},
        make("i", { class: `dot part-${n}`, "aria-hidden": "true" }),
        make("span", { class: "share" }, percent(share), " "),
        make("a", { href: linkTo(item_id), dir: "auto" }, titles.get(item_id) ?? item_id),
      ),
    );
  return make("div", { class: "why" }, bar, make("p", {}, make("span", { class: "unseen" }, "because of "), ...said));
}

/** Let rows slide from where they were before; not where somebody asked for less motion. */
function slide(rows, before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of rows) {
    const from = before.get(row.dataset.id);
    const steps =
      from === undefined
        ? [{ opacity: 0 }, { opacity: 1 }]
        : [{ transform: `translateY(${from - row.offsetTop}px)` }, { transform: "none" }];
    row.animate(steps, { duration: 260, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}
