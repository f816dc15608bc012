// @ts-check
/** @import {Maybe, SendResult} from './bridge-protocol.js' */
/** @import {Timers} from './bridge-timers.js' */
import { BridgeError } from './bridge-protocol.js';

const MAX_REF_BYTES = 128;
const TIMEOUT_MS = 30_000; // of a send without one of its own
const MAX_DEPTH = 502; // levels of a frame: the server takes data of 500, and closes the connection over more
const LONE_SURROGATE = /[\ud800-\udfff]/u; // with the u flag a pair is one character, and no match

/**
 * @typedef {{type: 'send', ref: string, to: unknown, event: any}} SendFrame
 * @typedef {object} Open  a send that has no answer yet
 * @property {SendFrame} frame
 * @property {string} text  what is sent, the same bytes each time: a ref with other bytes is a conflict
 * @property {boolean} sent  on the connection there is now
 * @property {(result: SendResult) => void} resolve
 * @property {(error: BridgeError) => void} reject
 */

/** The send frames that have no answer yet, oldest first. They outlive connections. */
export class Sends {
  /** @type {Map<string, Open>} */ #open = new Map();
  #timers;

  /** @param {Timers} timers */
  constructor(timers) { this.#timers = timers; }

  refs() { return [...this.#open.keys()]; }

  /** @param {string} ref */
  has(ref) { return this.#open.has(ref); }

  /**
   * Whatever the app hands in: the promise rejects where it makes no frame that the server can read, which would close
   * the connection and with it all that others wait for.
   * @param {SendFrame} frame @param {Maybe<number>} timeoutMs @returns {Promise<SendResult>}
   */
  add(frame, timeoutMs) {
    return new Promise((resolve, reject) => {
      const { ref } = frame;
      if (typeof ref !== 'string' || ref === '' || utf8Length(ref) > MAX_REF_BYTES) {
        throw new BridgeError('invalid', `ref must be a string of 1 to ${MAX_REF_BYTES} bytes`);
      }
      if (this.#open.has(ref)) throw new BridgeError('duplicate_ref', 'this ref is on its way already');
      this.#open.set(ref, { frame, text: textOf(frame), sent: false, resolve, reject });
      this.#timers.set(`send ${ref}`, timeoutMs ?? TIMEOUT_MS, () => this.fail(ref, new BridgeError('timeout', 'no result in time')));
    });
  }

  /**
   * The frame and its text, for writing. One that is too long fails here: the server would answer it by closing with
   * 1009, and that would stop everything else too.
   * @param {string} ref @param {number} maxBytes
   */
  write(ref, maxBytes) {
    const open = this.#open.get(ref);
    if (!open || open.sent) return undefined;
    const bytes = utf8Length(open.text);
    if (bytes > maxBytes) {
      this.fail(ref, new BridgeError('too_large', `${bytes} bytes; the bridge reads ${maxBytes}`));
      return undefined;
    }
    open.sent = true;
    return open;
  }

  /** The connection is gone: what had no answer on it is sent again on the next one. */
  lost() { for (const open of this.#open.values()) open.sent = false; }

  /**
   * The server closed because it could not read a frame: one of those on their way, if there are any. Which one nobody
   * can tell, so all of them fail. @param {string} reason @returns {boolean} whether there were any
   */
  unreadable(reason) {
    const refs = this.refs().filter((ref) => this.#open.get(ref)?.sent);
    for (const ref of refs) {
      this.fail(ref, new BridgeError('refused', reason || 'the bridge closed the connection over a frame of ours'));
    }
    return refs.length > 0;
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

/** @param {SendFrame} frame */
function textOf(frame) {
  let text;
  try {
    text = JSON.stringify(frame);
    JSON.stringify({ ...frame, event: { ...frame.event, data: undefined } }, (name, value) => {
      if (LONE_SURROGATE.test(name) || (typeof value === 'string' && LONE_SURROGATE.test(value))) {
        throw new TypeError('half a surrogate pair outside of data');
      }
      return value;
    });
  } catch (cause) { // a cycle, a BigInt, a toJSON that throws, lists within lists without end
    throw new BridgeError('invalid', `what is to be sent is no JSON: ${cause}`, { cause });
  }
  if (text.length > MAX_DEPTH && depthOf(text) > MAX_DEPTH) {
    throw new BridgeError('invalid', 'data is nested deeper than 500 levels');
  }
  return text;
}

/** How deep a JSON text is nested. @param {string} text */
function depthOf(text) {
  let [depth, deepest] = [0, 0];
  for (const [token] of text.matchAll(/"(?:[^"\\]+|\\.)*"|[[\]{}]/g)) {
    if (token === '[' || token === '{') deepest = Math.max(deepest, ++depth);
    else if (token[0] !== '"') depth--;
  }
  return deepest;
}

/** Bytes of a text in UTF-8; React Native has had no TextEncoder for long. @param {string} text */
export function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 0x7f) bytes += c > 0x7ff && (c < 0xd800 || c > 0xdfff) ? 2 : 1; // half a pair: two of its four
  }
  return bytes;
}
