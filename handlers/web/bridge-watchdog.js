// @ts-check
/** @import {Timers} from './bridge-timers.js' */

const DEFAULT_PING_MS = 25_000; // where the server does not say how often it pings
const ANSWER_MS = 10_000; // how long a ping may stay unanswered
const UNANSWERED = 2; // so many pings without an answer are a dead connection, however late timers fire
const MISSED_PINGS = 2.5; // how many heartbeats of a server that cannot be asked may stay away

/**
 * Finds connections that are dead without having ended. Browsers answer the server's pings without telling the page, so
 * over a WebSocket the page asks for itself. A stream cannot be asked, but its heartbeats are seen.
 */
export class Watchdog {
  #timers;
  #now;
  #ask;
  #dead;
  #pingMs = 0;
  #twoWay = false;
  #heard = 0; // how often something was heard, and when last
  #heardAt = 0;

  #unanswered = 0; // pings that this connection has not been heard after

  /** @param {Timers} timers @param {() => number} now @param {() => void} ask @param {() => void} dead */
  constructor(timers, now, ask, dead) {
    this.#timers = timers;
    this.#now = now;
    this.#ask = ask;
    this.#dead = dead;
  }

  heard() {
    this.#heard++;
    this.#unanswered = 0;
    this.#heardAt = this.#now();
  }

  /** @param {number} pingMs @param {boolean} twoWay */
  start(pingMs, twoWay) {
    this.stop();
    this.#pingMs = pingMs || DEFAULT_PING_MS;
    this.#twoWay = twoWay;
    this.#unanswered = 0;
    this.#watch(this.#patience);
  }

  stop() { this.#timers.cancel('watch', 'answer'); }

  get #patience() { return this.#pingMs * (this.#twoWay ? 1 : MISSED_PINGS); }

  /** @param {number} inMs */
  #watch(inMs) {
    this.#timers.set('watch', inMs, () => {
      const now = this.#now();
      this.#heardAt = Math.min(this.#heardAt, now); // a clock that was set back must not put the question off
      const quiet = now - this.#heardAt;
      if (quiet < this.#patience) this.#watch(this.#patience - quiet);
      else if (this.#twoWay) this.probe();
      else this.#dead();
    });
  }

  /** The page woke up, or has heard nothing for long: is the other side still there? */
  probe() {
    if (this.#timers.has('answer')) return;
    const [heard, at] = [this.#heard, this.#now()];
    if (this.#twoWay) this.#ask();
    const rest = this.#twoWay ? 0 : this.#pingMs - Math.max(0, at - this.#heardAt); // until the next heartbeat
    const answerMs = ANSWER_MS + Math.max(0, rest);
    this.#timers.set('answer', answerMs, () => {
      if (this.#heard > heard) return this.#watch(this.#patience);
      // A timer that is this late means that the machine slept, and an answer may be on its way; or that the page is
      // hidden, where timers fire once a minute. To tell them apart it asks once more.
      const late = this.#now() - at >= answerMs + ANSWER_MS;
      if (++this.#unanswered < UNANSWERED && late) this.probe();
      else this.#dead();
    });
  }
}
