// The session: the items that somebody has picked, oldest first; kept as long as the tab is open.

const KEY = "recsys_cl session";
const KNOWN = ["item_id", "title", "image"];
let items = read();

/** The items of the session, oldest first. */
export function getItems() {
  return items;
}

/** Whether an item is in it. */
export function holds(id) {
  return items.some((item) => item.item_id === id);
}

/** Put an item in as the newest, or take it out where it is in. */
export function toggle(item) {
  if (holds(item.item_id)) remove([item.item_id]);
  else write([...items, Object.fromEntries(KNOWN.filter((name) => item[name]).map((name) => [name, item[name]]))]);
}

/** Take items out. */
export function remove(ids) {
  write(items.filter((item) => !ids.includes(item.item_id)));
}

/** Take all items out. */
export function clear() {
  write([]);
}

/** Call it now and whenever the session changes, until the signal. */
export function follow(call, signal) {
  addEventListener("session", call, { signal });
  call();
}

function write(next) {
  items = next;
  sessionStorage.setItem(KEY, JSON.stringify(items));
  dispatchEvent(new Event("session"));
}

function read() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((item) => typeof item?.item_id === "string") : [];
  } catch {
    return [];
  }
}
