// @ts-check
/**
 * Events of the client, also where the platform has no EventTarget and no Event (React Native).
 *
 * @import {BridgeEvents} from './bridge-protocol.js'
 *
 * @typedef {object} Listeners  of a client's events; where there is an EventTarget, all of its methods are there
 * @property {<K extends keyof BridgeEvents>(type: K, listener: (event: BridgeEvent<BridgeEvents[K]>) => unknown,
 *   options?: {once?: boolean}) => void} addEventListener
 * @property {<K extends keyof BridgeEvents>(type: K, listener: (event: BridgeEvent<BridgeEvents[K]>) => unknown) => void}
 *   removeEventListener
 * @property {(event: BridgeEvent<any>) => boolean} dispatchEvent
 */

class PlainEvent {
  /** @param {string} type */
  constructor(type) { this.type = type; }
}

/** What this client needs of EventTarget. */
class PlainTarget {
  /** @type {{type: string, listener: (event: any) => unknown, once: boolean}[]} */ #list = [];

  /** @param {string} type @param {(event: any) => unknown} listener @param {{once?: boolean}} [options] */
  addEventListener(type, listener, { once = false } = {}) {
    this.removeEventListener(type, listener);
    this.#list.push({ type, listener, once });
  }

  /** @param {string} type @param {(event: any) => unknown} listener */
  removeEventListener(type, listener) {
    this.#list = this.#list.filter((entry) => entry.type !== type || entry.listener !== listener);
  }

  /** @param {{type: string}} event */
  dispatchEvent(event) {
    for (const { type, listener, once } of [...this.#list]) {
      if (type !== event.type) continue;
      if (once) this.removeEventListener(type, listener);
      try { listener.call(this, event); } catch (error) { setTimeout(() => { throw error; }); } // as EventTarget has it
    }
    return true;
  }
}

export const Target = /** @type {new () => Listeners} */ (/** @type {any} */ (globalThis.EventTarget ?? PlainTarget));
const BaseEvent = /** @type {new (type: string) => {readonly type: string}} */ (/** @type {any} */ (
  globalThis.Event ?? PlainEvent));

/** @template T */
export class BridgeEvent extends BaseEvent {
  /** @param {string} type @param {T} detail */
  constructor(type, detail) {
    super(type);
    this.detail = detail;
    /** @type {PromiseLike<unknown>[]} */
    this.work = [];
  }

  /** Keeps a message or gap unhandled until this is done. @param {PromiseLike<unknown>} work */
  waitUntil(work) { this.work.push(work); }
}
