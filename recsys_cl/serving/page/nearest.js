// Finding the point that is meant: come in all points and a pixel, goes out a row. A grid over the plane, made once,
// spares looking at a million points each time that the pointer moves.

const PER_CELL = 8; // points, were they spread evenly
const MOST_CELLS = 512; // on a side

/** Points by the cells of a grid. points: x and y of each; bounds: [left, right, low, high] of them. */
export class Grid {
  #left;
  #low;
  #across; // cells for a unit of the plane
  #up;
  #side;
  #starts; // where the rows of each cell begin, and at last where all end
  #rows;

  constructor(points, [left, right, low, high]) {
    const n = points.length / 2;
    const side = Math.max(1, Math.min(MOST_CELLS, Math.ceil(Math.sqrt(n / PER_CELL))));
    this.points = points;
    [this.#left, this.#low, this.#side] = [left, low, side];
    this.#across = side / Math.max(right - left, 1e-9);
    this.#up = side / Math.max(high - low, 1e-9);
    const cells = new Uint32Array(n);
    const starts = new Uint32Array(side * side + 1);
    for (let row = 0; row < n; row += 1) {
      const line = this.#cut((points[2 * row + 1] - low) * this.#up);
      cells[row] = line * side + this.#cut((points[2 * row] - left) * this.#across);
      starts[cells[row] + 1] += 1;
    }
    for (let cell = 0; cell < side * side; cell += 1) starts[cell + 1] += starts[cell];
    const next = starts.slice(0, -1);
    this.#rows = new Uint32Array(n);
    for (let row = 0; row < n; row += 1) {
      this.#rows[next[cells[row]]] = row;
      next[cells[row]] += 1;
    }
    this.#starts = starts;
  }

  /** The row of the point nearest to a pixel, the first of several, -1 where none is within `most` pixels; shown: 0 for
   * those that do not count, or null where all do. */
  find(view, px, py, most, shown) {
    const { points } = this;
    const { scale, x, y } = view;
    const first = this.#cut(((px - most - x) / scale - this.#left) * this.#across);
    const last = this.#cut(((px + most - x) / scale - this.#left) * this.#across);
    const bottom = this.#cut(((y - py - most) / scale - this.#low) * this.#up);
    const top = this.#cut(((y - py + most) / scale - this.#low) * this.#up);
    let [best, found] = [most * most, -1];
    for (let line = bottom; line <= top; line += 1) {
      const end = this.#starts[line * this.#side + last + 1];
      for (let at = this.#starts[line * this.#side + first]; at < end; at += 1) {
        const row = this.#rows[at];
        const dx = scale * points[2 * row] + x - px;
        const dy = y - scale * points[2 * row + 1] - py;
        const far = dx * dx + dy * dy;
        if ((far < best || (far === best && row < found)) && (shown === null || shown[row])) [best, found] = [far, row];
      }
    }
    return found;
  }

  /** A place in cells as the number of a cell. */
  #cut(place) {
    return Math.max(0, Math.min(this.#side - 1, Math.floor(place)));
  }
}
