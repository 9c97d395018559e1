// The view of an item: what is known of it, and its neighbors by behavior and by picture side by side.

import { get, Problem } from "./api.js";
import { heading, make, say, skeleton, state } from "./dom.js";
import { addButton, linkTo, listAttributes, showPicture, showRows } from "./items.js";
import { clampK } from "./limits.js";
import { many, titleOf, words } from "./text.js";

const FIRST = 12;
const MOST = 96;
const SIDES = {
  behavior: ["By behavior", "What the same people touch."],
  image: ["By picture", "What looks alike."],
};

/** Show an item. The query may hold `same`, names of attributes that neighbors must share, and `k`. */
export async function viewItem(main, [id], { signal, query, facts }) {
  main.replaceChildren(heading("…"), make("div", { class: "sides" }, skeleton(6), skeleton(6)));
  const item = await learnItem(id, facts, signal);
  document.title = `${titleOf(item)} – recsys_cl`;
  const same = query.getAll("same").filter((name) => item[name] !== undefined);
  const most = clampK(Math.min(MOST, facts.n_items), facts);
  const k = Math.min(Number(query.get("k")) || FIRST, most);
  const ways = facts.pictures ? ["behavior", "image"] : ["behavior"];
  const sides = ways.map((by) => showSide(by));
  main.replaceChildren(
    showHead(item),
    showFilters(item, same, k),
    make("div", { class: ways.length > 1 ? "sides" : "sides alone" }, ...sides.map((side) => side.section)),
  );
  const asked = { where: same.map((name) => `${name}=${item[name]}`), why: true };
  const ks = { behavior: k, image: Math.min(k, facts.n_pictures ?? k) };
  const answers = await Promise.all(
    ways.map((by) => {
      if (by === "image" && item.row !== undefined && !item.image) return new Problem(404, "This item has no picture.");
      return get(["items", id, "neighbors"], { ...asked, k: ks[by], by }, { signal }).catch((error) => error);
    }),
  );
  if (signal.aborted) return;
  const held = answers.map((answer) => new Set((answer.items ?? []).map((one) => one.item_id)));
  sides.forEach((side, n) => fillSide(side, answers[n], held[1 - n]));
  const longest = Math.max(...held.map((one) => one.size));
  if (longest === k && k < Math.min(most, facts.n_items - 1)) main.append(showMore(item, same, k));
  say(ways.map((by, n) => `${many(held[n].size, "neighbor")} ${SIDES[by][0].toLowerCase()}`).join(", "));
}

/** What is known of an item: no more than its id, where its picture is all there is, for nobody has touched it yet. */
async function learnItem(id, facts, signal) {
  try {
    const { release: _, ...item } = await get(["items", id], {}, { signal });
    return item;
  } catch (error) {
    if (error.status !== 404 || !facts.pictures) throw error;
    await get(["items", id, "neighbors"], { by: "image", k: 1 }, { signal }).catch(() => {
      throw error;
    });
    return { item_id: id };
  }
}

function showHead(item) {
  const attributes = listAttributes(item).map(([name, value]) =>
    make("div", {}, make("dt", {}, words(name)), make("dd", { dir: "auto" }, value)),
  );
  const add = addButton(item);
  add.classList.add("wide");
  const link = { class: "button", href: `#/map?item=${encodeURIComponent(item.item_id)}` };
  const map = item.row === undefined ? null : make("a", link, "Show on the map");
  return make(
    "header",
    { class: "item" },
    showPicture(item, 512),
    make(
      "div",
      { class: "what" },
      make("p", { class: "id" }, item.item_id),
      heading(titleOf(item)),
      attributes.length ? make("dl", { class: "facts" }, ...attributes) : null,
      make("p", { class: "actions" }, add, map),
    ),
  );
}

function showFilters(item, same, k) {
  const names = listAttributes(item).map(([name]) => name);
  if (!names.length) return "";
  const links = names.map((name) => {
    const on = same.includes(name);
    const next = on ? same.filter((one) => one !== name) : [...same, name];
    const press = () => (location.hash = addressOf(item, next, k));
    return make(
      "button",
      { type: "button", class: "chip", id: `same-${name}`, "aria-pressed": String(on), onclick: press },
      words(name),
    );
  });
  return make(
    "p",
    { class: "filters", role: "group", "aria-label": "Only neighbors with the same" },
    "Only the same ",
    ...links,
  );
}

function showSide(by) {
  const [title, text] = SIDES[by];
  const body = make("div", { class: "body", "aria-busy": "true" }, skeleton(6));
  const head = make("header", {}, make("h2", { id: `by-${by}` }, title), make("p", { class: "soft" }, text));
  return { section: make("section", { class: "side", "aria-labelledby": `by-${by}` }, head, body), body };
}

function fillSide({ body }, answer, others) {
  body.removeAttribute("aria-busy");
  if (answer instanceof Problem && answer.status !== 401) {
    const title = answer.status === 404 ? "Nothing to compare" : "No answer";
    body.replaceChildren(state(title, answer.message));
  } else if (answer instanceof Error) throw answer;
  else if (!answer.items.length)
    body.replaceChildren(state("No neighbor is left", "Take a condition away to see more."));
  else body.replaceChildren(showRows(answer.items, (one) => listNotes(one, others)));
}

function listNotes(item, others) {
  const n = item.why?.n_users ?? 0;
  const notes = [];
  if (item.space !== "image") notes.push(n ? `${many(n, "person", "people")} touched both` : "nobody touched both yet");
  if (others?.has(item.item_id)) notes.push(make("span", { class: "both" }, "in both lists"));
  return notes.length ? [make("p", { class: "note" }, ...notes.map((note) => make("span", {}, note)))] : [];
}

function showMore(item, same, k) {
  const press = () => (location.hash = addressOf(item, same, 2 * k));
  return make(
    "p",
    { class: "more" },
    make("button", { type: "button", class: "button", id: "more", onclick: press }, "Show more"),
  );
}

function addressOf(item, same, k) {
  const query = new URLSearchParams(same.map((name) => ["same", name]));
  if (k !== FIRST) query.set("k", k);
  const text = query.toString();
  return linkTo(item.item_id) + (text && `?${text}`);
}
