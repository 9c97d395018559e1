// Finding items by title: a field that offers what fits while somebody types, and the view of all that was found.

import { get } from "./api.js";
import { heading, icon, make, say, settle, state } from "./dom.js";
import { linkTo, showPicture, showTile } from "./items.js";
import { clampK } from "./limits.js";
import { many, titleOf } from "./text.js";

const N_OFFERED = 8;
const N_FOUND = 60;
const QUIET_MS = 120;

/** Put the field into the header's place for it. learnt: gives the facts of the live release, or null. */
export function addSearch(place, learnt) {
  const field = make("input", {
    type: "search",
    id: "query",
    placeholder: "Search items",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 200,
    role: "combobox",
    "aria-label": "Search items by title or id",
    "aria-expanded": "false",
    "aria-controls": "offers",
    "aria-autocomplete": "list",
    "aria-keyshortcuts": "/",
  });
  const list = make("ul", { id: "offers", role: "listbox", "aria-label": "Items", hidden: true });
  const form = make("form", { role: "none" }, icon("search"), field, make("kbd", { "aria-hidden": "true" }, "/"), list);
  place.replaceChildren(form);
  const offers = new Offers(field, list, learnt);
  const ask = settle(() => offers.ask(), QUIET_MS);
  field.addEventListener("input", ask);
  field.addEventListener("keydown", (event) => offers.press(event));
  field.addEventListener("blur", () => offers.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    offers.submit();
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

/** What the field offers. */
class Offers {
  #field;
  #list;
  #learnt;
  #asking = null;
  #chosen = -1;

  constructor(field, list, learnt) {
    this.#field = field;
    this.#list = list;
    this.#learnt = learnt;
  }

  async ask() {
    this.#asking?.abort();
    const query = this.#field.value.trim();
    if (!query) return this.close();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    try {
      const { items } = await get(["items"], { query, k: clampK(N_OFFERED, this.#learnt()) }, { signal });
      if (!signal.aborted && document.activeElement === this.#field) this.#show(items, query);
    } catch (error) {
      if (error.name !== "AbortError") this.#tell(error.message);
    }
  }

  close() {
    this.#asking?.abort();
    this.#list.hidden = true;
    this.#choose(-1);
    this.#field.setAttribute("aria-expanded", "false");
  }

  press(event) {
    const n = this.#list.hidden ? 0 : this.#list.querySelectorAll("[role=option]").length;
    if (event.key === "Escape") this.close();
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && n) {
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#choose(((this.#chosen + 1 + step + n + 1) % (n + 1)) - 1); // -1 is the field itself
      event.preventDefault();
    }
  }

  submit() {
    const chosen = this.#list.hidden ? null : this.#list.querySelectorAll("[role=option]")[this.#chosen];
    const query = this.#field.value.trim();
    if (chosen) this.#open(chosen.dataset.id);
    else if (query) {
      this.#field.blur();
      location.hash = `#/search/${encodeURIComponent(query)}`;
    }
  }

  #show(items, query) {
    const options = items.map((item, n) =>
      make(
        "li",
        {
          role: "option",
          id: `offer-${n}`,
          "aria-selected": "false",
          "data-id": item.item_id,
          onpointerdown: (event) => event.preventDefault(), // the field keeps the focus until the click
          onclick: () => this.#open(item.item_id),
        },
        showPicture(item),
        make("span", { class: "title", dir: "auto" }, ...mark(titleOf(item), query)),
        make("span", { class: "id" }, item.item_id),
      ),
    );
    if (!options.length) return this.#tell(`No title or id holds “${query}”. Try fewer letters.`);
    this.#list.replaceChildren(...options);
    this.#expand(many(items.length, "item"));
  }

  #tell(text) {
    this.#list.replaceChildren(make("li", { class: "told", role: "presentation" }, text));
    this.#expand(text);
  }

  #expand(text) {
    this.#list.hidden = false;
    this.#field.setAttribute("aria-expanded", "true");
    this.#choose(-1);
    say(text);
  }

  #choose(n) {
    this.#chosen = n;
    this.#list.querySelectorAll("[role=option]").forEach((option, place) => {
      option.setAttribute("aria-selected", place === n);
      if (place === n) option.scrollIntoView({ block: "nearest" });
    });
    if (n < 0) this.#field.removeAttribute("aria-activedescendant");
    else this.#field.setAttribute("aria-activedescendant", `offer-${n}`);
  }

  #open(id) {
    this.#field.value = "";
    this.#field.blur(); // the view that opens takes the focus
    location.hash = linkTo(id);
  }
}

/** The view of all that was found. */
export async function viewSearch(main, [query], { signal, facts }) {
  main.replaceChildren(heading(`“${query}”`), make("p", { class: "lead" }, "Searching…"));
  const k = clampK(N_FOUND, facts);
  const { items } = await get(["items"], { query, k }, { signal });
  if (!items.length) {
    const advice =
      "Each word must be part of the item's title, or all of it part of its id. Try fewer or shorter words.";
    main.replaceChildren(heading(`“${query}”`), state("No item was found", advice));
    say("No item was found");
    return;
  }
  const found = items.length < k ? many(items.length, "item") : `The first ${many(k, "item")}`;
  const map = make("a", { href: `#/map?q=${encodeURIComponent(query)}` }, "Show them on the map");
  main.replaceChildren(
    heading(`“${query}”`),
    make("p", { class: "lead" }, `${found}, best first. `, map),
    make("ul", { class: "tiles" }, ...items.map(showTile)),
  );
  say(found);
}

/** A title as texts, with the parts that a query's words cover in `mark` elements. */
function mark(title, query) {
  const lower = title.toLowerCase();
  if (lower.length !== title.length) return [title]; // lower case took other places
  const covered = new Uint8Array(title.length);
  for (const word of query.toLowerCase().split(/\s+/).filter(Boolean)) {
    const place = lower.indexOf(word);
    if (place >= 0) covered.fill(1, place, place + word.length);
  }
  const parts = [];
  for (let start = 0, end = 1; start < title.length; start = end, end += 1) {
    while (end < title.length && covered[end] === covered[start]) end += 1;
    const text = title.slice(start, end);
    parts.push(covered[start] ? make("mark", {}, text) : text);
  }
  return parts;
}
