// Boxes on the screen, [left, top, right, bottom], and how much of one lies under others.

/** How many square pixels two boxes have in common. */
export const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));

const cell = 64; // px

/** Boxes that are taken, in cells: what lies far away costs a question nothing, however many there are. */
export class Taken {
  #cells = new Map();

  /** A box counts as often as its weight says. */
  add(box, weight = 1) {
    this.#each(box, (key) => {
      const list = this.#cells.get(key);
      if (list) list.push([box, weight]);
      else this.#cells.set(key, [[box, weight]]);
    });
  }

  /** The square pixels of a box that are taken, by weight. */
  under(box) {
    let sum = 0;
    this.#each(box, (key, x, y) => {
      const list = this.#cells.get(key);
      if (!list) return;
      // A box that lies in several cells counts in each with the part that lies there.
      const part = [Math.max(box[0], x), Math.max(box[1], y), Math.min(box[2], x + cell), Math.min(box[3], y + cell)];
      for (const [other, weight] of list) sum += overlap(part, other) * weight;
    });
    return sum;
  }

  #each([l, t, r, b], visit) {
    for (let x = Math.floor(l / cell); x * cell < r; x++) {
      for (let y = Math.floor(t / cell); y * cell < b; y++) visit(x * 65536 + y, x * cell, y * cell);
    }
  }
}
