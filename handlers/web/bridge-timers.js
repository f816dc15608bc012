// @ts-check
const LONGEST_MS = 2 ** 31 - 1; // beyond this setTimeout fires at once

/** Timers by name: setting one again replaces it. */
export class Timers {
  /** @type {Map<string, any>} */ #ids = new Map();
  #clock;

  /** @param {{setTimeout: (fn: () => void, ms: number) => any, clearTimeout: (id: any) => void}} clock */
  constructor(clock) { this.#clock = clock; }

  /** @param {string} name */
  has(name) { return this.#ids.has(name); }

  /** @param {string} name @param {number} ms @param {() => void} fn */
  set(name, ms, fn) {
    this.cancel(name);
    this.#ids.set(name, this.#clock.setTimeout(() => {
      this.#ids.delete(name);
      fn();
    }, Math.min(ms, LONGEST_MS)));
  }

  /** @param {...string} names */
  cancel(...names) {
    for (const name of names) {
      if (this.#ids.has(name)) this.#clock.clearTimeout(this.#ids.get(name));
      this.#ids.delete(name);
    }
  }
}
