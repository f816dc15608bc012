// @ts-check
/** @import {Transport} from './bridge-transports.js' */
/** @import {Timers} from './bridge-timers.js' */

const ANSWER_MS = 10_000; // after this an ack that nobody answered is repeated
const AGAIN_MS = 5_000; // a failed one is repeated with the next one, and after this if none comes

/** Gathers acks. They are cumulative: the first goes at once, the next one speaks for all that came up meanwhile. */
export class Acks {
  #timers;
  #o;
  /** @type {Transport | null} */ #link = null;
  /** @type {string | null} */ #due = null;
  /** @type {object | null} the one that is on its way to where answers are given */ #flight = null;
  #failed = false;
  #sentAt = -Infinity;

  /** @param {Timers} timers @param {{now: () => number, ackEveryMs: number}} o */
  constructor(timers, o) {
    this.#timers = timers;
    this.#o = o;
  }

  /** @param {Transport} link */
  start(link) {
    this.#link = link;
    this.#sentAt = this.#o.now();
  }

  /** What was not sent is forgotten: a connection that resumes acks anew. */
  stop() {
    this.#timers.cancel('ack', 'ack answer');
    this.#link = this.#due = this.#flight = null;
    this.#failed = false;
  }

  /** @param {string} cursor */
  soon(cursor) {
    if (!this.#link) return; // a connection that resumes acks what was handled without one
    this.#due = cursor;
    if (this.#flight || (this.#timers.has('ack') && !this.#failed)) return;
    const wait = Math.min(this.#o.ackEveryMs, this.#sentAt + this.#o.ackEveryMs - this.#o.now()); // clocks are set back, too
    this.#failed = false;
    if (wait > 0) this.#timers.set('ack', wait, () => this.flush());
    else this.flush();
  }

  /** @param {boolean} [leaving] then it does not wait for the one before */
  flush(leaving = false) {
    this.#timers.cancel('ack');
    const cursor = this.#due;
    if (cursor === null || !this.#link || (this.#flight && !leaving)) return;
    this.#due = null;
    this.#sentAt = this.#o.now();
    const arrived = this.#link.transmit({ type: 'ack', cursor });
    if (!arrived) return;
    const flight = this.#flight = {};
    const land = (/** @type {boolean} */ ok) => {
      if (this.#flight !== flight) return;
      this.#flight = null;
      this.#timers.cancel('ack answer');
      if (ok && this.#due !== null) this.soon(this.#due);
      if (ok) return;
      this.#due ??= cursor;
      this.#failed = true;
      this.#timers.set('ack', AGAIN_MS, () => this.flush());
    };
    this.#timers.set('ack answer', ANSWER_MS, () => land(false));
    arrived.then(land);
  }
}
