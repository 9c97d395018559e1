// The dock: the session at the foot of every other view, with what is recommended first; it changes with the session.

import { make } from "./dom.js";
import { linkTo, showPicture } from "./items.js";
import { clampK } from "./limits.js";
import { recommend } from "./recommend.js";
import * as session from "./session.js";
import { many, titleOf } from "./text.js";

const N_PICKED = 5;
const N_NEXT = 5;
let asking = null;

/** Show the session, and what goes with it, or nothing where the view shows it anyway or nothing is picked. */
export async function showDock(dock, view, facts) {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const items = session.getItems();
  dock.hidden = !items.length || view === "session" || view === "map" || !facts;
  if (dock.hidden) return;
  const picked = make("span", { class: "stack" }, ...items.slice(-N_PICKED).map((item) => showPicture(item)));
  const next = dock.querySelector(".dock-next") ?? make("ul", { class: "dock-next", "aria-label": "Recommended next" });
  const link = make(
    "a",
    { class: "dock-link", href: "#/session" },
    picked,
    make("span", {}, `${many(items.length, "item")} in the session`),
  );
  dock.replaceChildren(
    link,
    make("span", { class: "dock-label", "aria-hidden": "true" }, "Next"),
    next,
    make("a", { class: "button accent", href: "#/session" }, "See why"),
  );
  try {
    const answer = await recommend(clampK(Math.min(N_NEXT, facts.n_items), facts), facts, signal);
    next.replaceChildren(...answer.items.map(showNext));
  } catch (error) {
    if (error.name !== "AbortError") next.replaceChildren(make("li", { class: "soft" }, error.message));
  }
}

function showNext(item) {
  const link = make(
    "a",
    { href: linkTo(item.item_id), title: titleOf(item) },
    showPicture(item),
    make("span", { dir: "auto" }, titleOf(item)),
  );
  return make("li", { "data-id": item.item_id }, link);
}
