// @ts-check
/** @import {Problem} from './bridge-protocol.js' */
/** @import {Wires} from './bridge-transports.js' */
import { ask, atV1, pause } from './bridge-http.js';
import { backoffMs } from './bridge-protocol.js';

/** What a transport without a way back sends: each frame is one POST, whose answer is given to the client as a frame. */
export class Posts {
  #wires;
  #gone;
  #sends = Promise.resolve(); // one after the other, for the backend gets a user's sends in their order

  /** @param {Wires} wires @param {AbortSignal} gone  the transport is closed */
  constructor(wires, gone) {
    this.#wires = wires;
    this.#gone = gone;
  }

  /**
   * @param {{type: string, cursor?: string}} frame @param {string} [text] @param {AbortSignal} [over]
   * @returns {Promise<boolean> | undefined} false where it did not arrive; any frame without a path of its own needs a socket
   */
  transmit({ type, cursor }, text, over) {
    if (type === 'ack') return this.#ack(cursor);
    if (!text || !over) return undefined;
    if (type === 'request') return this.#request(text, over);
    this.#sends = this.#sends.then(() => this.#send(text, over));
    return undefined;
  }

  /** It outlives the page and the transport, for the last ack goes out as they end. @param {string} [cursor] */
  #ack(cursor) {
    return this.#post('acks', { cursor }, { keepalive: true })
      .then(({ status }) => status < 500 && status !== 401 && status !== 429, () => false);
  }

  /**
   * Tries until the bridge has spoken: what a proxy says counts for nothing, nor does it that the token has expired, or
   * that a machine is about to stop: behind a balancer it may be another than the one whose stream this is.
   * @param {string} text @param {AbortSignal} over
   */
  async #send(text, over) {
    const { o } = this.#wires;
    const { type, ...send } = JSON.parse(text);
    for (let attempt = 0; !this.#gone.aborted && !over.aborted; attempt++) {
      try {
        const response = await this.#post('sends', send, { signal: over });
        if (response.status === 202) return this.#frame({ type: 'result', sessions: 0, ...(await response.json()) });
        const problem = await problemOf(response);
        if (problem && response.status !== 401 && problem.code !== 'draining') return this.#frame({ type: 'error', ref: send.ref, problem });
      } catch { /* nobody is there, or over */ }
      await pause(o, Math.round(o.random() * backoffMs(attempt)), this.#gone, over);
    }
  }

  /** @param {string} text @param {AbortSignal} over */
  async #request(text, over) {
    const { type, ref, ...request } = JSON.parse(text);
    try {
      const response = await this.#post('requests', request, { signal: over });
      const problem = await problemOf(response);
      if (problem) this.#wires.frame({ type: 'error', ref, problem });
      else if (response.status !== 200) return false;
      else this.#wires.frame({ type: 'response', ref, status: response.status, data: await response.json() });
      return true;
    } catch {
      return false;
    }
  }

  /** @param {object} frame  that only this transport may still give */
  #frame(frame) {
    if (!this.#gone.aborted) this.#wires.frame(frame);
  }

  /** @param {string} path @param {object} body @param {object} init @returns {Promise<Response>} */
  #post(path, body, init) {
    const headers = { 'Content-Type': 'application/json' };
    return ask(this.#wires, atV1(this.#wires, path), { method: 'POST', headers, body: JSON.stringify(body), ...init });
  }
}

/** The bridge's own refusal; undefined for anything else. @param {Response} response @returns {Promise<Problem | undefined>} */
async function problemOf(response) {
  if (!(response.headers.get('Content-Type') ?? '').startsWith('application/problem+json')) return undefined;
  return response.json();
}
