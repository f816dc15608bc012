// @ts-check
/** @import {SendResult} from './bridge-protocol.js' */
import { BridgeError } from './bridge-protocol.js';

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
    }, ms));
  }

  /** @param {...string} names */
  cancel(...names) {
    for (const name of names) {
      if (this.#ids.has(name)) this.#clock.clearTimeout(this.#ids.get(name));
      this.#ids.delete(name);
    }
  }
}

/** The send frames that have no answer yet, oldest first. They outlive connections. */
export class Sends {
  /** @type {Map<string, {frame: {type: string}, resolve: (r: SendResult) => void, reject: (e: BridgeError) => void}>} */
  #open = new Map();
  #timers;

  /** @param {Timers} timers */
  constructor(timers) { this.#timers = timers; }

  refs() { return [...this.#open.keys()]; }

  /** @param {string} ref */
  has(ref) { return this.#open.has(ref); }

  /** @param {string} ref @param {{type: string}} frame @param {number} timeoutMs @returns {Promise<SendResult>} */
  add(ref, frame, timeoutMs) {
    return new Promise((resolve, reject) => {
      if (this.#open.has(ref)) throw new BridgeError('duplicate_ref', 'this ref is on its way already');
      this.#open.set(ref, { frame, resolve, reject });
      this.#timers.set(`send ${ref}`, timeoutMs, () => this.fail(ref, new BridgeError('timeout', 'no result in time')));
    });
  }

  /**
   * The frame, for writing. One that is too long fails here: the server would answer it by closing with 1009,
   * and that would stop everything else too.
   * @param {string} ref @param {number} maxBytes
   */
  frame(ref, maxBytes) {
    const frame = this.#open.get(ref)?.frame;
    const bytes = frame === undefined ? 0 : new TextEncoder().encode(JSON.stringify(frame)).length;
    if (bytes <= maxBytes) return frame;
    this.fail(ref, new BridgeError('too_large', `${bytes} bytes; the bridge reads ${maxBytes}`));
  }

  /** @param {SendResult} result */
  done(result) {
    const ref = result.ref ?? '';
    this.#open.get(ref)?.resolve(result);
    this.#forget(ref);
  }

  /** @param {string} ref @param {BridgeError} error */
  fail(ref, error) {
    this.#open.get(ref)?.reject(error);
    this.#forget(ref);
  }

  /** @param {string} ref */
  #forget(ref) {
    this.#open.delete(ref);
    this.#timers.cancel(`send ${ref}`);
  }
}
