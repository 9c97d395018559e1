// Points on a canvas: come in as places and looks, go out as pixels. Written for a million points: typed arrays, no
// object for a point, drawn only when asked for, and by the processor, so that it needs no graphics card.

const SUBTLE = 0.25; // how much is left of a point that stands back
const WHOLE = 128; // a pixel that is covered whole: 7 bits, so that products with two colors have 32
export const DRAFT = 150_000; // points of a draft, for as long as somebody moves

/** The part of the plane that the canvas shows: pixels = scale · place + offset, and y goes up. */
export class View {
  constructor(points) {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let n = 0; n < points.length; n += 2) {
      left = Math.min(left, points[n]);
      right = Math.max(right, points[n]);
      low = Math.min(low, points[n + 1]);
      high = Math.max(high, points[n + 1]);
    }
    if (!points.length) [left, right, low, high] = [-1, 1, -1, 1];
    this.bounds = [left, right, low, high];
  }

  /** Show all of it on a canvas, right of its first `covered` pixels. */
  fit(width, height, covered = 0) {
    const [left, right, low, high] = this.bounds;
    const [wide, tall] = [Math.max(right - left, 1e-6), Math.max(high - low, 1e-6)];
    this.base = 0.88 * Math.min((width - covered) / wide, height / tall);
    this.zoom = 1;
    this.x = (width + covered) / 2 - (this.base * (left + right)) / 2;
    this.y = height / 2 + (this.base * (low + high)) / 2;
  }

  /** Pixels of the canvas for a unit of the plane. */
  get scale() {
    return this.base * this.zoom;
  }

  /** Zoom by a factor, so that what is at a pixel stays there. */
  zoomBy(factor, px, py) {
    const zoom = Math.min(4000, Math.max(0.5, this.zoom * factor));
    const by = zoom / this.zoom;
    this.zoom = zoom;
    this.x = px - by * (px - this.x);
    this.y = py - by * (py - this.y);
  }

  /** Move by pixels. */
  moveBy(dx, dy) {
    this.x += dx;
    this.y += dy;
  }

  /** Bring a place to a pixel. */
  center(placeX, placeY, px, py) {
    this.x = px - this.scale * placeX;
    this.y = py + this.scale * placeY;
  }

  /** The pixel of a place. */
  locate(placeX, placeY) {
    return [this.x + this.scale * placeX, this.y - this.scale * placeY];
  }
}

/** The radius of a point in pixels of the screen: smaller where there are many on little room, and growing slowly as
 * one comes near. room: the square root of the screen's pixels. */
export function chooseRadius(n, room, zoom) {
  const base = Math.min(5, Math.max(0.8, (0.13 * room) / Math.sqrt(Math.max(1, n))));
  return Math.min(9, base * Math.max(1, zoom) ** 0.4);
}

/**
 * Draw all points. looks: for each the number of its color; standing: for each 0 to stand back, 1 as it is, 2 to stand
 * out, or null for all as they are; colors: [red, green, blue] by number; paper: that of the ground; ratio: pixels of
 * the canvas for one of the screen; draft: only some of very many points, in a fraction of the time.
 */
export function paint(canvas, view, { points, looks, standing, colors, paper, ink, ratio, draft = false }) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  pixels.fill(pack(paper));
  const radius = ratio * chooseRadius(looks.length, Math.sqrt(width * height) / ratio, view.zoom);
  const step = draft ? Math.ceil(looks.length / DRAFT) : 1;
  const sheet = { pixels, width, height, view, points, looks, standing, step };
  const dim = colors.map((color) => color.map((value, n) => Math.round(SUBTLE * value + (1 - SUBTLE) * paper[n])));
  if (standing) stampAll(sheet, 0, makeStamp(radius, width, 0.7), dim.map(pack));
  stampAll(sheet, 1, makeStamp(radius, width, 0.85), colors.map(pack));
  if (standing) {
    const far = Math.max(1.35 * radius, 3.2 * ratio);
    stampAll(
      sheet,
      2,
      makeStamp(far + 1.6 * ratio, width, 1),
      colors.map(() => pack(ink)),
    );
    stampAll(sheet, 2, makeStamp(far, width, 1), colors.map(pack));
  }
  context.putImageData(image, 0, 0);
}

/** A disc with a soft edge: how far each of its pixels lies from its middle in the row of all pixels, and how much of
 * it is covered, of `WHOLE`. */
function makeStamp(radius, width, opacity) {
  const reach = Math.ceil(radius);
  const [steps, covers] = [[], []];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (cover <= 0.02) continue;
      steps.push(dy * width + dx);
      covers.push(Math.round(WHOLE * opacity * cover));
    }
  }
  return { reach, steps: Int32Array.from(steps), covers: Int32Array.from(covers) };
}

/** Stamp all points that stand so; those whose disc would not lie whole on the canvas are left out. */
function stampAll(sheet, stand, { reach, steps, covers }, colors) {
  const { pixels, width, height, points, looks, standing } = sheet;
  const { scale, x, y } = sheet.view;
  const step = stand === 2 ? 1 : sheet.step;
  const [right, bottom, n] = [width - reach - 1, height - reach - 1, looks.length];
  for (let row = 0; row < n; row += step) {
    if (standing !== null && standing[row] !== stand) continue;
    const px = Math.round(scale * points[2 * row] + x);
    const py = Math.round(y - scale * points[2 * row + 1]);
    if (px < reach || px > right || py < reach || py > bottom) continue;
    const middle = py * width + px;
    const color = colors[looks[row]];
    const [redBlue, green] = [color & 0xff00ff, color & 0xff00];
    for (let m = 0; m < steps.length; m += 1) {
      const at = middle + steps[m];
      const own = pixels[at];
      const cover = covers[m];
      const left = WHOLE - cover;
      const mixed = (Math.imul(own & 0xff00ff, left) + Math.imul(redBlue, cover)) >> 7;
      const mixedGreen = (Math.imul(own & 0xff00, left) + Math.imul(green, cover)) >> 7;
      pixels[at] = 0xff000000 | (mixed & 0xff00ff) | (mixedGreen & 0xff00);
    }
  }
}

/** A color as the canvas keeps it: little-endian, as are the machines that browsers run on. */
function pack([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
