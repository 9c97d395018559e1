// Parts of the view of one release: the gate, the metrics, and what differs from another release.

import { make } from "./dom.js";
import { linkTo } from "./items.js";
import { change, count, figure, many, percent, signed, words } from "./text.js";

const BETTER = new Set(["recall", "ndcg", "mrr", "hit_rate", "coverage"]); // where more is better; of others it depends

/** What the gate said: passed, or each reason against it; and the figures beside the release that was live. */
export function showGate({ gate, broken }) {
  const section = make(
    "section",
    { class: "block gate", "aria-labelledby": "gate" },
    make("h2", { id: "gate" }, "Gate"),
  );
  if (broken)
    section.append(
      make("p", { class: "verdict bad" }, "This release is broken and cannot be used."),
      make("p", {}, broken),
    );
  if (!gate) return section;
  const verdict = gate.passed
    ? "Nothing spoke against this release."
    : `${many(gate.reasons.length, "reason")} spoke against it.`;
  section.append(make("p", { class: gate.passed ? "verdict" : "verdict bad" }, verdict));
  if (gate.reasons.length)
    section.append(make("ul", { class: "reasons" }, ...gate.reasons.map((reason) => make("li", {}, reason))));
  if (gate.forced)
    section.append(make("p", {}, make("span", { class: "soft" }, "Published all the same, because: "), gate.forced));
  if (gate.beside) section.append(...showBeside(gate.beside));
  else if (gate.alone) section.append(make("p", { class: "soft" }, `It was judged alone: ${gate.alone}.`));
  return section;
}

function showBeside({ release, compared, items_lost: lost }) {
  const head = make(
    "h3",
    {},
    "Beside the release that was live, ",
    make("a", { href: `#/releases/${encodeURIComponent(release)}` }, release),
  );
  const gone = lost ? `${percent(lost)} of its items are gone.` : "None of its items is gone.";
  if (!compared) return [head, make("p", { class: "soft" }, `No user could be judged by both. ${gone}`)];
  const rows = compared.changes.map((one) =>
    row(
      [words(one.part), one.metric, figure(one.earlier), figure(one.candidate)],
      tone(one.metric, one.low > 0 ? 1 : one.high < 0 ? -1 : 0),
      change(one.candidate - one.earlier),
      `${signed(one.low)} to ${signed(one.high)}`,
      count(one.n_users),
    ),
  );
  const shares = [
    ["coverage", compared.coverage],
    ["share of the most popular fifth", compared.popularity_share],
  ].map(([name, [earlier, now]]) =>
    row(["all", name, figure(earlier), figure(now)], "", change(now - earlier), "", count(compared.n_users)),
  );
  const table = showTable(
    ["Who", "Metric", "Then", "This one", "Change", "Interval", "Users"],
    [...rows, ...shares],
    "Both on the same users",
  );
  return [head, make("p", { class: "soft" }, `${many(compared.n_users, "user")} judged by both. ${gone}`), table];
}

/** The names of a release's metrics, such as `ndcg@10`. */
export function listMetrics(release) {
  return Object.keys(release.metrics).filter((name) => name.includes("@"));
}

/** All metrics, by the length of the lists; other: a release to compare with, or null. */
export function showMetrics(release, other) {
  const names = listMetrics(release);
  const section = make(
    "section",
    { class: "block", "aria-labelledby": "metrics" },
    make("h2", { id: "metrics" }, "Metrics"),
  );
  if (!names.length) {
    section.append(make("p", { class: "soft" }, "None are known of this release."));
    return section;
  }
  const kinds = [...new Set(names.map((name) => name.split("@")[0]))];
  kinds.sort((a, b) => rank(a) - rank(b));
  const ks = [...new Set(names.map((name) => Number(name.split("@")[1])))].sort((a, b) => a - b);
  const rows = kinds.map((kind) => {
    const cells = ks.map((k) => {
      const [value, before] = [release.metrics[`${kind}@${k}`], other?.metrics[`${kind}@${k}`]];
      const known = value !== undefined && value !== null && before !== undefined && before !== null;
      const delta = known
        ? make("span", { class: `delta ${tone(kind, value - before)}` }, change(value - before))
        : null;
      return make("td", {}, figure(value), delta);
    });
    return make("tr", {}, make("th", { scope: "row" }, words(kind)), ...cells);
  });
  if (other)
    section.append(
      make(
        "p",
        { class: "soft" },
        "On held-out events; the smaller figure is the change since the release it is compared with.",
      ),
    );
  section.append(showTable(["", ...ks.map((k) => `top ${k}`)], rows, "Metrics by the length of the list"));
  return section;
}

/** What differs: items gained and lost, neighbors that changed. */
export function showDiff(diff) {
  const { gained, lost, first, second } = diff.n_items;
  const figures = [
    ["Items", `${count(first)} → ${count(second)}`],
    ["Gained", count(gained)],
    ["Lost", count(lost)],
    ["Neighbors changed", diff.churn === null ? "–" : percent(diff.churn)],
  ].map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  const churn = diff.n_compared
    ? `of the 10 nearest, over ${many(diff.n_compared, "item")} that both have`
    : "no item is in both";
  return make(
    "div",
    {},
    make("dl", { class: "figures" }, ...figures),
    make("p", { class: "soft" }, `Neighbors changed: ${churn}.`),
    listIds("Items gained", diff.gained, gained, true),
    listIds("Items lost", diff.lost, lost, false),
    listMoved(diff.moved),
  );
}

function listIds(title, ids, n, linked) {
  if (!ids.length) return null;
  const more = n > ids.length ? make("li", { class: "soft" }, `and ${count(n - ids.length)} more`) : null;
  const items = ids.map((id) => make("li", {}, linked ? make("a", { href: linkTo(id) }, id) : id));
  return make("div", {}, make("h3", {}, title), make("ul", { class: "ids" }, ...items, more));
}

function listMoved(moved) {
  const most = moved.filter((one) => one.changed > 0);
  if (!most.length) return null;
  const items = most.map((one) =>
    make(
      "li",
      {},
      make("a", { href: linkTo(one.item_id) }, one.item_id),
      make("span", { class: "soft" }, ` ${percent(one.changed)}`),
    ),
  );
  return make("div", {}, make("h3", {}, "Whose neighbors changed most"), make("ul", { class: "ids" }, ...items));
}

function showTable(heads, rows, caption) {
  const head = make("tr", {}, ...heads.map((name) => (name ? make("th", { scope: "col" }, name) : make("td", {}))));
  const table = make(
    "table",
    {},
    make("caption", { class: "unseen" }, caption),
    make("thead", {}, head),
    make("tbody", {}, ...rows),
  );
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption }, table);
}

function row([who, ...cells], toned, delta, ...more) {
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, who),
    ...cells.map((cell) => make("td", {}, cell)),
    make("td", { class: toned }, delta),
    ...more.map((cell) => make("td", {}, cell)),
  );
}

function tone(metric, difference) {
  if (!BETTER.has(metric.split("@")[0]) || Math.abs(difference) < 5e-4) return "";
  return difference > 0 ? "better" : "worse";
}

function rank(kind) {
  const place = ["ndcg", "recall", "hit_rate", "mrr", "coverage"].indexOf(kind);
  return place < 0 ? 99 : place;
}
