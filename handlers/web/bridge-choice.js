// @ts-check
/** @import {TransportName} from './bridge-protocol.js' */

const PATIENCE = 2; // attempts a WebSocket has

/** URLs at which a WebSocket has opened: for the life of this page these need no other transport. @type {Set<string>} */
const proven = new Set();

/**
 * Which transport the next attempt takes. The hard part is to tell a proxy that blocks WebSockets, for which there are
 * the other transports, from a server that is down, for which there is only patience: to a page both look alike. So a
 * fallback counts only once it has worked, and until then attempts go back and forth.
 */
export class Choice {
  #names;
  #url;
  #retryMs;
  #now;
  #at = 0;
  #misses = 0;
  #fellAt = 0;
  /** @type {number | null} the fallback that has worked */ #fallback = null;

  /** @param {TransportName[]} names @param {string} url @param {number} retryMs @param {() => number} now */
  constructor(names, url, retryMs, now) {
    this.#names = names;
    this.#url = url;
    this.#retryMs = retryMs;
    this.#now = now;
  }

  get #name() { return this.#names[this.#at]; }

  /** A working fallback is left for another try of what is better only here, between connections. */
  next() {
    const socket = this.#names.indexOf('websocket');
    if (socket >= 0 && this.#at > socket && proven.has(this.#url)) this.#at = socket; // another client in this page
    else if (this.#at > 0 && this.#now() - this.#fellAt >= this.#retryMs) {
      this.#back();
      this.#fallback = null; // what was wrong with the others may be over too
    }
    return this.#name;
  }

  /** The attempt met something that speaks its transport. */
  opened() {
    if (this.#name === 'websocket') proven.add(this.#url);
  }

  /** The attempt got its connected frame. */
  worked() {
    this.#misses = 0;
    if (this.#at > 0) this.#fallback = this.#at;
  }

  /**
   * The attempt ended before it worked.
   * @param {number} code @param {boolean} held  it opened, or hung until its time was up
   */
  failed(code, held) {
    if (this.#name === 'websocket' && code === 1006) {
      if (proven.has(this.#url) || globalThis.navigator?.onLine === false) return;
      if (++this.#misses >= PATIENCE) this.#fall();
    } else if (this.#name === 'sse' && code === 1006 && held) {
      this.#fall(); // a proxy between here and there keeps what it should pass on
    } else if (this.#at > 0 && (code === 1006 || this.#fallback !== this.#at && code !== 4401)) {
      this.#back(); // nobody is there, or one who refuses: that may be all that the WebSocket died of
    }
  }

  #fall() {
    const next = this.#at === 0 ? this.#fallback ?? 1 : this.#at + 1;
    this.#at = next < this.#names.length ? next : 0;
    this.#misses = 0;
    this.#fellAt = this.#now();
  }

  /** To the first choice, which now has one attempt. */
  #back() {
    this.#at = 0;
    this.#misses = PATIENCE - 1;
  }
}
