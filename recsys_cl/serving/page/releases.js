// The releases of the store: all of them, and one with its gate, its metrics and what differs from another.

import { get } from "./api.js";
import { draw, heading, make, say, skeleton, state } from "./dom.js";
import { listMetrics, showDiff, showGate, showMetrics } from "./release.js";
import { change, figure, many, moment, words } from "./text.js";

const HEADLINES = ["ndcg", "recall", "coverage"];
const K = 10; // the length of the lists whose metrics stand in the overview, where there are such

/** Show all releases, newest first. */
export async function viewReleases(main, _, { signal }) {
  main.replaceChildren(heading("Releases"), skeleton(4));
  const releases = (await get(["releases"], {}, { signal, fresh: true })).releases.reverse();
  const names = findHeadlines(releases);
  const rows = releases.map((release, n) =>
    showRelease(
      release,
      releases.slice(n + 1).find((one) => !one.broken),
      names,
    ),
  );
  main.replaceChildren(
    heading("Releases"),
    make(
      "p",
      { class: "lead" },
      `${many(releases.length, "release")} in the store, newest first. One answers: the live one.`,
    ),
    showTrend(releases.filter((release) => release.metrics[names[0]] !== undefined).reverse(), names[0]),
    make("ol", { class: "releases" }, ...rows),
  );
  say(many(releases.length, "release"));
}

/** Show one release, beside the one before it or the one that `beside` of the query names. */
export async function viewRelease(main, [version], { signal, query }) {
  main.replaceChildren(heading(version), skeleton(6));
  const { releases } = await get(["releases"], {}, { signal, fresh: true });
  const place = releases.findIndex((release) => release.release === version);
  if (place < 0) {
    const back = make("a", { class: "button", href: "#/releases" }, "All releases");
    main.replaceChildren(
      heading(version),
      state("There is no such release", "It may have been deleted to save space.", back),
    );
    return;
  }
  const release = releases[place];
  const whole = releases.filter((one) => one !== release && !one.broken);
  const before = releases
    .slice(0, place)
    .filter((one) => !one.broken)
    .at(-1);
  const other = whole.find((one) => one.release === query.get("beside")) ?? before ?? null;
  const diff = make("section", { class: "block", "aria-labelledby": "diff" });
  main.replaceChildren(
    make("p", { class: "path" }, make("a", { href: "#/releases" }, "Releases")),
    make(
      "header",
      { class: "release-head" },
      heading(release.created ? moment(release.created) : version),
      showBadges(release),
    ),
    make("p", { class: "id" }, version),
    showGate(release),
    showMetrics(release, other),
    diff,
  );
  await showDifferences(diff, { release, other, whole }, signal);
}

async function showDifferences(place, { release, other, whole }, signal) {
  const title = make("h2", { id: "diff" }, "What changed");
  if (release.broken || !other) {
    const why = release.broken ? "A broken release cannot be opened." : "There is no other release to compare it with.";
    place.replaceChildren(title, make("p", { class: "soft" }, why));
    return;
  }
  const choice = make(
    "select",
    { id: "beside" },
    ...whole.map((one) =>
      make(
        "option",
        { value: one.release, selected: one === other },
        `${moment(one.created)} · ${one.release.slice(-6)}`,
      ),
    ),
  );
  choice.addEventListener("change", () => {
    location.hash = `#/releases/${encodeURIComponent(release.release)}?beside=${encodeURIComponent(choice.value)}`;
  });
  const head = make(
    "header",
    {},
    title,
    make("p", { class: "soft" }, make("label", { for: "beside" }, "since "), choice),
  );
  place.replaceChildren(
    head,
    make("div", { "aria-busy": "true" }, make("p", { class: "soft" }, "Comparing the neighbors…"), skeleton(3)),
  );
  const diff = await get(["releases", other.release, "diff", release.release], {}, { signal });
  place.replaceChildren(head, showDiff(diff));
  say("The releases are compared");
}

function showRelease(release, before, names) {
  const metrics = names.map((name) => {
    const [value, earlier] = [release.metrics[name], before?.metrics[name]];
    const delta =
      value === undefined || earlier === undefined ? null : make("span", { class: "delta" }, change(value - earlier));
    return make("div", {}, make("dt", {}, name), make("dd", {}, figure(value), delta));
  });
  const title = make(
    "a",
    { class: "title", href: `#/releases/${encodeURIComponent(release.release)}` },
    release.created ? moment(release.created) : release.release,
  );
  const said = release.broken ?? release.gate?.reasons?.join("; ");
  return make(
    "li",
    { class: release.live ? "release live" : "release" },
    make(
      "div",
      { class: "what" },
      title,
      make("p", { class: "id" }, release.release),
      showBadges(release),
      said ? make("p", { class: "soft" }, said) : null,
    ),
    release.broken ? null : make("dl", { class: "figures" }, ...metrics),
  );
}

function showBadges(release) {
  const badges = [];
  if (release.live) badges.push(make("span", { class: "badge live" }, "Live"));
  if (release.broken) badges.push(make("span", { class: "badge bad" }, "Broken"));
  else if (release.gate?.passed) badges.push(make("span", { class: "badge" }, "Gate passed"));
  else if (release.gate) badges.push(make("span", { class: "badge bad" }, "Forced past the gate"));
  return make("p", { class: "badges" }, ...badges);
}

/** The metrics of the overview: those of lists of 10, or of the shortest there are. */
function findHeadlines(releases) {
  const known = Object.keys(releases.find((release) => listMetrics(release).length)?.metrics ?? {});
  const ks = [...new Set(known.map((name) => Number(name.split("@")[1])).filter(Boolean))].sort((a, b) => a - b);
  const k = ks.includes(K) ? K : ks[0];
  return HEADLINES.map((name) => `${name}@${k}`).filter((name) => known.includes(name));
}

/** One metric over the releases, oldest first, as a line. */
function showTrend(releases, name) {
  if (releases.length < 2) return "";
  const values = releases.map((release) => release.metrics[name]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const place = (value, n) => [
    10 + (580 * n) / (values.length - 1),
    64 - (48 * (value - low)) / Math.max(high - low, 1e-9),
  ];
  const dots = values.map((value, n) => {
    const [cx, cy] = place(value, n);
    const about = draw("title", {}, `${moment(releases[n].created)}: ${figure(value)}`);
    return draw("circle", { cx, cy, r: releases[n].live ? 6 : 4, class: releases[n].live ? "live" : "" }, about);
  });
  const line = draw("polyline", { points: values.map((value, n) => place(value, n).join(",")).join(" ") });
  const label = `${words(name)} from ${figure(values[0])} to ${figure(values.at(-1))}`;
  const chart = draw("svg", { viewBox: "0 0 600 80", role: "img", "aria-label": label }, line, ...dots);
  return make(
    "figure",
    { class: "trend" },
    make("figcaption", {}, `${name}, release by release`),
    chart,
    make("p", { class: "ends" }, make("span", {}, figure(values[0])), make("span", {}, figure(values.at(-1)))),
  );
}
