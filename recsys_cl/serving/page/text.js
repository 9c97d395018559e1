// Figures, names and times as people read them.

const WHOLE = new Intl.NumberFormat("en");
const DAY = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** 12,345 */
export function count(n) {
  return WHOLE.format(n);
}

/** `1 item`, `12 items` */
export function many(n, one, more = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : more}`;
}

/** A score or a metric with a fitting number of digits. */
export function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** +0.012 or −0.012, with a true minus. */
export function signed(value) {
  return (value < 0 ? "−" : "+") + figure(Math.abs(value));
}

/** As `signed`, or ±0 for what is none. */
export function change(value) {
  return Number(figure(Math.abs(value))) === 0 ? "±0" : signed(value);
}

/** 0.314 as 31% */
export function percent(share) {
  return `${Math.round(100 * share)}%`;
}

/** When a release was made. */
export function moment(created) {
  const time = new Date(created);
  return Number.isNaN(time.getTime()) ? created : DAY.format(time);
}

/** How long ago, in the largest unit that fits. */
export function ago(seconds) {
  const units = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ];
  for (const [name, size] of units) {
    if (seconds >= size) return `${many(Math.floor(seconds / size), name)} ago`;
  }
  return "just now";
}

/** `effective_rank` as `effective rank` */
export function words(name) {
  return name.replaceAll("_", " ");
}

/** What an item is called. */
export function titleOf(item) {
  return item.title || item.item_id;
}
