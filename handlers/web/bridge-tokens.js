// @ts-check
/** @import {BridgeOptions} from './bridge-protocol.js' */
/** @import {Timers} from './bridge-timers.js' */
import { BridgeError } from './bridge-protocol.js';

const FLOOR_MS = 5_000; // between two refreshes, whatever the server says
const ENOUGH_MS = 30_000; // after a refresh this short ago, the next one waits until no more than this is left
const TOKEN = /^[\x21-\x7e]{1,8192}$/; // what the server looks at; anything else it would close the connection over

/** The app's tokens: asks for one where it is wanted, and keeps short-lived ones from being asked for without end. */
export class Tokens {
  #timers;
  #o;
  #report;
  /** @type {string | null} the last one that was given */ #given = null;
  #refreshedAt = -Infinity;
  /** @type {object | null} the refresh that is under way */ #refreshing = null;

  /**
   * @param {Timers} timers @param {Required<Pick<BridgeOptions, 'getToken' | 'now'>>} o
   * @param {(error: BridgeError) => void} report
   */
  constructor(timers, o, report) {
    this.#timers = timers;
    this.#o = o;
    this.#report = report;
  }

  /** A token to connect with. After 'unauthorized' the last one was refused. @param {'connect' | 'unauthorized'} reason */
  async get(reason) {
    const { token, same } = await this.#ask(reason);
    // It is tried all the same: what it was refused for may have passed, like a clock that is a little off.
    if (same && reason === 'unauthorized') this.#report(sameToken('refused'));
    return token;
  }

  /**
   * The server says that the token expires. One that is followed soon by another such word is a short-lived one: there
   * the floors hold. @param {number} inMs @param {(token: string) => void} renew
   */
  expiring(inMs, renew) {
    if (this.#refreshing || this.#timers.has('refresh')) return;
    const since = this.#o.now() - this.#refreshedAt;
    const wait = since < ENOUGH_MS ? Math.max(FLOOR_MS - since, inMs - ENOUGH_MS) : 0;
    if (wait > 0) this.#timers.set('refresh', wait, () => this.#refresh(renew));
    else this.#refresh(renew);
  }

  /** The connection whose token expires is gone. */
  stop() {
    this.#timers.cancel('refresh');
    this.#refreshing = null;
  }

  /** @param {(token: string) => void} renew */
  async #refresh(renew) {
    const refreshing = this.#refreshing = {};
    this.#refreshedAt = this.#o.now();
    try {
      const { token, same } = await this.#ask('expiring');
      if (this.#refreshing !== refreshing) return;
      if (same) this.#report(sameToken('about to expire')); // to ask again would bring it again
      else renew(token);
    } catch (cause) { // then the server closes with 4401 in its time, and that asks for a token again
      if (this.#refreshing === refreshing) this.#report(new BridgeError('token', 'getToken failed', { cause }));
    } finally {
      if (this.#refreshing === refreshing) this.#refreshing = null;
    }
  }

  /** @param {'connect' | 'unauthorized' | 'expiring'} reason */
  async #ask(reason) {
    const given = await this.#o.getToken({ reason });
    const token = typeof given === 'string' ? given.trim() : '';
    if (!TOKEN.test(token)) throw new BridgeError('token', 'what getToken gave is no token: a string without spaces is');
    const same = token === this.#given;
    this.#given = token;
    return { token, same };
  }
}

/** @param {string} what */
const sameToken = (what) => new BridgeError('same_token',
  `getToken gave the token again that is ${what}: it must not give one from a cache for the reasons unauthorized and expiring`);
