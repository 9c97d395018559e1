// The page: comes in the address behind `#`, goes out the view it names; see the other files for the views.

import { get, keepToken, Problem } from "./api.js";
import { showDock } from "./dock.js";
import { heading, make, say, settle, state } from "./dom.js";
import { viewHome } from "./home.js";
import { viewItem } from "./item.js";
import { viewMap } from "./map.js";
import { viewRelease, viewReleases } from "./releases.js";
import { addSearch, viewSearch } from "./search.js";
import * as session from "./session.js";
import { viewSession } from "./sessionview.js";
import { ago } from "./text.js";

const main = document.getElementById("main");
const dock = document.getElementById("dock");
const VIEWS = {
  "": ["recsys_cl", viewHome],
  item: ["Item", viewItem],
  search: ["Search", viewSearch],
  session: ["Session", viewSession],
  map: ["Map", viewMap],
  releases: ["Releases", viewReleases],
  release: ["Release", viewRelease],
};
let facts = null; // of the live release
let learning = false;
let leaving = null; // aborts what the view before still asks for
let shownBefore = null; // which view, and of what

/** Show the view that the address names. */
async function open() {
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { view, parts, query } = readAddress();
  const [title, show] = VIEWS[view];
  const key = JSON.stringify([view, parts]);
  const [first, same, had] = [shownBefore === null, shownBefore === key, document.activeElement?.id];
  shownBefore = key;
  const y = same ? scrollY : (history.state?.y ?? 0); // where one is, or was when one comes back
  document.title = view ? `${parts[0] ?? title} – recsys_cl` : title;
  document.body.dataset.view = view;
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.dataset.view === (view === "release" ? "releases" : view)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  main.setAttribute("aria-busy", "true");
  if (!same) scrollTo(0, 0);
  try {
    facts ??= await learn(signal);
    const shown = show(main, parts, { signal, query, facts, fail });
    if (!same && !first) focus();
    await shown;
  } catch (error) {
    if (!signal.aborted) fail(error, main);
  }
  if (signal.aborted) return;
  main.removeAttribute("aria-busy");
  if (!first) focus(same ? had : null);
  if (y) scrollTo(0, y);
  showDock(dock, view, facts);
}

/** `#/item/a%2Fb?k=24` as the view `item` of ["a/b"]. */
function readAddress() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view, ...rest] = path.split("/");
  const query = new URLSearchParams(search);
  try {
    const parts = rest.map(decodeURIComponent).filter(Boolean);
    if (view === "releases" && parts.length) return { view: "release", parts, query };
    if (view in VIEWS && (parts.length || !["item", "search"].includes(view))) return { view, parts, query };
  } catch {
    // not an address of ours
  }
  return { view: "", parts: [], query };
}

/** What the live release holds. */
async function learn(signal) {
  learning = true;
  const known = await get(["release"], {}, { signal, fresh: true }).finally(() => (learning = false));
  document.body.classList.toggle("plain-pictures", !known.thumbnails);
  document.getElementById("release").textContent = `Release ${known.release}, ${ago(known.age_seconds)}`;
  return known;
}

/** Move the focus to where the keyboard is to go on: `id`, or the heading; not from a field in which somebody types. */
function focus(id = null) {
  if (document.activeElement?.closest("#find") || main.contains(document.activeElement)) return;
  (document.getElementById(id) ?? main.querySelector("h1"))?.focus({ preventScroll: true });
}

/** Say in a place of the page what went wrong there, and what to do. */
function fail(error, place) {
  if (error.name === "AbortError") return;
  place.removeAttribute("aria-busy");
  place.querySelectorAll("[aria-busy]").forEach((part) => part.removeAttribute("aria-busy"));
  if (error.status === 401) return place.replaceChildren(askToken());
  if (!(error instanceof Problem)) console.error(error);
  const again = make("button", { type: "button", class: "button accent", onclick: open }, "Try again");
  const home = make("a", { class: "button", href: "#/" }, "Start page");
  const title =
    { 0: "Out of reach", 404: "Not found", 429: "Too busy", 503: "Too busy" }[error.status] ?? "Something went wrong";
  const detail = error instanceof Problem ? error.message : "The page has a fault here; its console says which.";
  const told = state("", detail, ...(error.status === 404 ? [home] : [again, home]));
  told.firstChild.remove();
  if (place === main) place.replaceChildren(heading(title), told);
  else place.replaceChildren(state(title, detail, again));
  say(`${title}. ${detail}`);
}

function askToken() {
  const field = make("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    open();
  };
  say("This service asks for its token");
  return make(
    "form",
    { class: "state token", onsubmit: submit },
    heading("A token, please"),
    make("p", {}, "This service answers those who have its token. It is kept until this tab is closed."),
    make("label", { for: "token" }, "Token"),
    field,
    make("button", { class: "button accent" }, "Go on"),
  );
}

addSearch(document.getElementById("find"), () => facts);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address behind `#` is that of the view
  main.focus();
});
history.scrollRestoration = "manual";
const keepPlace = settle((hash) => {
  if (hash === location.hash && !main.hasAttribute("aria-busy")) history.replaceState({ y: scrollY }, "");
}, 100);
addEventListener("scroll", () => keepPlace(location.hash), { passive: true });
addEventListener("hashchange", open);
addEventListener("session", () => showDock(dock, readAddress().view, facts));
addEventListener("release", ({ detail }) => {
  if (!detail.before || learning || detail.version === facts?.release) return;
  facts = null; // and what is shown is of the release before, whose rows and scores are others
  open();
  say("A new release is live");
});
session.follow(() => {
  const badge = document.getElementById("count");
  badge.hidden = !session.getItems().length;
  badge.textContent = session.getItems().length;
});
open();
