// @ts-check
/** @import {Answer, Maybe, RequestOptions, SendResult} from './bridge-protocol.js' */
/** @import {Timers} from './bridge-timers.js' */
import { BridgeError } from './bridge-protocol.js';

const MAX_REF_BYTES = 128;
const TIMEOUT_MS = 30_000; // of a send without one of its own
const REQUEST_TIMEOUT_MS = 5_000; // the server's, of a request without one of its own
const GRACE_MS = 5_000; // for the server's word that a request's time is up
const MAX_DEPTH = 502; // levels of a frame: the server takes data of 500, and closes the connection over more
const LONE_SURROGATE = /[\ud800-\udfff]/u; // with the u flag a pair is one character, and no match

/**
 * @typedef {{type: 'send', ref: string, to: any, event: any}} SendFrame
 * @typedef {{type: 'request', ref: string, to?: any, event: any, timeoutMs?: number}} RequestFrame
 * @typedef {object} Open  a frame that has no answer yet
 * @property {SendFrame | RequestFrame} frame
 * @property {string} text  what is sent, the same bytes each time: a ref with other bytes is a conflict
 * @property {boolean} sent  on the connection there is now
 * @property {AbortController} over  aborted when nobody waits for the answer any more
 * @property {(result: any) => void} resolve
 * @property {(error: BridgeError) => void} reject
 */

/** The sends and requests that have no answer yet, oldest first. Sends outlive connections; a request goes out once. */
export class Sends {
  /** @type {Map<string, Open>} */ #open = new Map();
  #timers;

  /** @param {Timers} timers */
  constructor(timers) { this.#timers = timers; }

  refs() { return [...this.#open.keys()]; }

  /** @param {string} ref */
  has(ref) { return this.#open.has(ref); }

  /** @param {SendFrame} frame @param {Maybe<number>} timeoutMs @returns {Promise<SendResult>} */
  send(frame, timeoutMs) { return this.#add(frame, timeoutMs ?? TIMEOUT_MS); }

  /** @param {string} ref @param {any} event @param {RequestOptions} options @returns {Promise<Answer>} */
  request(ref, event, { to, timeoutMs, signal }) {
    const aborted = () => new BridgeError('aborted', 'the app has aborted the request', { cause: signal?.reason });
    if (signal?.aborted) return Promise.reject(aborted());
    /** @type {RequestFrame} */
    const frame = { type: 'request', ref, ...(to && { to }), event, ...(timeoutMs != null && { timeoutMs }) };
    const answer = this.#add(frame, (timeoutMs ?? REQUEST_TIMEOUT_MS) + GRACE_MS);
    const open = this.#open.get(ref);
    const abort = () => { // it stays among the open ones, so that its answer is known when it comes
      open?.reject(aborted());
      open?.over.abort();
    };
    signal?.addEventListener('abort', abort);
    const done = () => signal?.removeEventListener('abort', abort);
    answer.then(done, done);
    return answer;
  }

  /**
   * Whatever the app hands in: the promise rejects where it makes no frame that the server can read, which would close
   * the connection and with it all that others wait for.
   * @param {SendFrame | RequestFrame} frame @param {number} timeoutMs @returns {Promise<any>}
   */
  #add(frame, timeoutMs) {
    return new Promise((resolve, reject) => {
      const { ref } = frame;
      if (typeof ref !== 'string' || ref === '' || utf8Length(ref) > MAX_REF_BYTES) {
        throw new BridgeError('invalid', `ref must be a string of 1 to ${MAX_REF_BYTES} bytes`);
      }
      if (!(timeoutMs > 0)) throw new BridgeError('invalid', 'timeoutMs must be a number above 0'); // NaN is neither
      if (this.#open.has(ref)) throw new BridgeError('duplicate_ref', 'this ref is on its way already');
      this.#open.set(ref, { frame, text: textOf(frame), sent: false, over: new AbortController(), resolve, reject });
      this.#timers.set(`send ${ref}`, timeoutMs, () => this.fail(ref, new BridgeError('timeout', 'no answer in time')));
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

  /** Whether it may be sent over HTTP too. @param {string} ref */
  forBackend(ref) {
    const { type, to } = this.#open.get(ref)?.frame ?? {};
    return type === 'request' || to?.backend !== undefined;
  }

  /** @param {string} ref */
  isRequest(ref) { return this.#open.get(ref)?.frame.type === 'request'; }

  /**
   * The connection is gone: sends that had no answer on it go out again on the next one, requests fail.
   * @param {boolean} renewed  only a stream is gone, and the session goes on: requests over HTTP may be answered yet
   */
  lost(renewed) {
    for (const [ref, open] of this.#open) {
      if (open.frame.type === 'send') open.sent = false;
      else if (!renewed) this.fail(ref, new BridgeError('disconnected', 'the session ended before the answer came'));
    }
  }

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

  /** @param {{ref?: string}} frame  its answer @param {SendResult | Answer} result */
  done({ ref = '' }, result) {
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
    this.#open.get(ref)?.over.abort();
    this.#open.delete(ref);
    this.#timers.cancel(`send ${ref}`);
  }
}

/** @param {SendFrame | RequestFrame} frame */
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
