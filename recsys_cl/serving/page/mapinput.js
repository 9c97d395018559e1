// Moving over the map: comes in what mouse, fingers and keys do, goes out moves, zooms and what is shown.

import { linkTo } from "./items.js";

const STEP = 60; // pixels that a key moves
const SLACK = 5; // pixels that a press may move and still be one

/** Let mouse, fingers and keys steer a map until the signal. */
export function steer(map, signal) {
  const { canvas, element } = map;
  const listen = (name, call, options = {}) => canvas.addEventListener(name, call, { signal, ...options });
  const fingers = new Map();
  let moved = 0;

  listen("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, placeOf(event));
    if (fingers.size === 1) moved = 0;
    element.classList.remove("keys");
  });
  listen("pointermove", (event) => {
    const [x, y] = placeOf(event);
    if (!fingers.has(event.pointerId)) {
      const row = map.find(x, y);
      canvas.classList.toggle("over", row >= 0);
      map.show(row).catch(ignore);
      return;
    }
    const [beforeX, beforeY] = fingers.get(event.pointerId);
    const other = Array.from(fingers).find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, [x, y]);
    moved += Math.hypot(x - beforeX, y - beforeY);
    if (other) {
      const spread =
        Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(beforeX - other[0], beforeY - other[1]));
      map.move((x - beforeX) / 2, (y - beforeY) / 2);
      map.zoom(spread, (x + other[0]) / 2, (y + other[1]) / 2);
    } else if (moved > SLACK) map.move(x - beforeX, y - beforeY);
  });
  listen("pointerup", async (event) => {
    const alone = fingers.size === 1 && fingers.delete(event.pointerId);
    if (!alone || moved > SLACK) return;
    const row = map.find(...placeOf(event), event.pointerType === "mouse" ? undefined : 24);
    if (row < 0 || event.pointerType !== "mouse") map.show(row, true).catch(ignore);
    else open(map, row);
  });
  for (const name of ["pointerup", "pointercancel"]) listen(name, (event) => fingers.delete(event.pointerId));
  listen("pointerleave", (event) => {
    if (event.pointerType === "mouse" && !fingers.size) map.show(-1);
  });
  listen(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 20 : 1);
      map.zoom(Math.exp(-0.0018 * Math.max(-400, Math.min(400, pixels))), ...placeOf(event));
    },
    { passive: false },
  );
  listen("dblclick", (event) => map.zoom(2, ...placeOf(event)));
  listen("keydown", (event) => press(map, event));
  listen("blur", () => element.classList.remove("keys"));
}

function press(map, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
  const zooms = { "+": 1.4, "=": 1.4, "-": 1 / 1.4 };
  const { clientWidth: width, clientHeight: height } = map.canvas;
  const atCross = () => map.find(width / 2, height / 2, Math.max(width, height) / 4);
  if (moves[event.key]) map.move(...moves[event.key]);
  else if (zooms[event.key]) map.zoom(zooms[event.key]);
  else if (event.key === "0") map.fit();
  else if (event.key === "Enter") {
    const row = atCross();
    if (row >= 0) open(map, row);
    return;
  } else if (event.key === "Escape") {
    map.element.classList.remove("keys");
    map.show(-1, true);
    return;
  } else return;
  event.preventDefault();
  map.element.classList.add("keys");
  map.show(atCross(), true).catch(ignore);
}

function open(map, row) {
  map.describe(row).then((item) => (location.hash = linkTo(item.item_id)), ignore);
}

function placeOf(event) {
  return [event.offsetX, event.offsetY];
}

// Whatever the service refuses here is asked for again by the next move.
function ignore() {}
