// @ts-check
/** @import {Plumbing, SocketLike, TransportName} from './bridge-protocol.js' */
import { SUBPROTOCOL } from './bridge-protocol.js';
import { ask, atV1, endOf, pause } from './bridge-http.js';
import { Posts } from './bridge-posts.js';
import { StreamTransport } from './bridge-stream.js';

/**
 * How a connection ended: a WebSocket close code, or the one that means the same. `adviceMs`: the server said when to
 * come back. `floorMs`: and not before.
 * @callback End
 * @param {number} code @param {string} reason @param {{adviceMs?: number, floorMs?: number}} [more] @returns {void}
 *
 * What a transport is given; of its callbacks none is called after close().
 * @typedef {object} Wires
 * @property {Plumbing} o
 * @property {string} url  of the WebSocket
 * @property {string} httpUrl  under which v1/… is, with a slash at its end
 * @property {string} token
 * @property {string | null} after
 * @property {() => void} opened  the other side agreed to this transport, though no frame has come yet
 * @property {() => void} heard  something came, be it a heartbeat
 * @property {(frame: unknown) => void} frame  a frame, or the JSON text of one
 * @property {End} end
 *
 * Writes a frame. Resolves to false where it did not arrive; undefined where nobody can tell.
 * @callback Transmit
 * @param {{type: string, cursor?: string}} frame
 * @param {string} [text]  the frame as it is to be written
 * @param {AbortSignal} [over]  nobody waits for its answer any more
 * @returns {Promise<boolean> | undefined | void}
 *
 * One connection over one transport, used once.
 * @typedef {object} Transport
 * @property {boolean} twoWay  it takes every frame; the others take acks, requests and sends to the backend, and never
 *   answer a ping
 * @property {() => void} open  throws where the browser refuses at once
 * @property {Transmit} transmit
 * @property {(code?: number) => void} close
 */

const POLL_WAIT_MS = 25_000; // how long the server holds a poll that has nothing to say
const POLL_FLOOR_MS = 1_000; // between polls that bring nothing new

/** @implements {Transport} */
class SocketTransport {
  twoWay = true;
  #wires;
  /** @type {SocketLike | null} */ #socket = null;

  /** @param {Wires} wires */
  constructor(wires) { this.#wires = wires; }

  open() {
    const { o, url, token, after, opened, heard, frame, end } = this.#wires;
    const socket = this.#socket = new o.WebSocket(url, [SUBPROTOCOL]);
    socket.onopen = () => {
      opened();
      this.transmit({ type: 'connect', token, ...(after && { after }) });
    };
    socket.onmessage = (e) => {
      heard();
      frame(String(e.data));
    };
    socket.onclose = (e) => end(e.code, e.reason);
    socket.onerror = () => {}; // a close follows it; without a listener the WebSockets of Node end the process
  }

  /** @param {object} frame @param {string} [text] */
  transmit(frame, text = JSON.stringify(frame)) {
    if (this.#socket?.readyState === 1) this.#socket.send(text);
  }

  /** @param {number} [code] */
  close(code) {
    const socket = this.#socket;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code); // on a half-open socket the close event is minutes away: nobody waits for it
  }
}

/** Long polls: one request after the other, each from where the last one ended. */
class PollTransport {
  twoWay = false;
  #wires;
  #gone = new AbortController();
  #posts;

  /** @param {Wires} wires */
  constructor(wires) {
    this.#wires = wires;
    this.#posts = new Posts(wires, this.#gone.signal);
  }

  open() { this.#loop(); }

  async #loop() {
    const { o, end, heard } = this.#wires;
    const { signal } = this.#gone;
    let { after } = this.#wires;
    try {
      for (let first = true; ; first = false) {
        const askedAt = o.now();
        // The first one asks only what there is, so that it is soon known that polling works.
        const query = { ...(after && { after }), waitMs: String(first ? 0 : POLL_WAIT_MS) };
        const response = await ask(this.#wires, atV1(this.#wires, 'poll', query), { signal });
        const refusal = await endOf(response, 'application/json');
        if (signal.aborted) return;
        if (refusal) return end(...refusal);
        const { cursor, frames = [] } = await response.json();
        if (signal.aborted) return;
        heard();
        if (first) this.#connected(after, cursor, frames);
        for (const frame of frames) if (!signal.aborted) this.#wires.frame(frame);
        if (signal.aborted) return;
        const idle = !cursor || cursor === after;
        after = cursor || after;
        const early = askedAt + POLL_FLOOR_MS - o.now();
        if (idle && !first && early > 0) await pause(o, Math.min(POLL_FLOOR_MS, early), signal);
      }
    } catch (cause) {
      if (!signal.aborted) end(1006, `the poll failed: ${cause}`);
    }
  }

  /**
   * Polls have no session to tell of. Where frames came too, their cursors say where a fresh device stands: the
   * answer's own lies behind them, and they are not handled yet.
   * @param {string | null} after @param {string} cursor @param {{type: string}[]} frames
   */
  #connected(after, cursor, frames) {
    this.#wires.frame({
      type: 'connected', session: '', user: '', cursor: after ?? (frames.length === 0 && cursor || ''),
      resumed: after !== null && !frames.some(({ type }) => type === 'gap'),
      pending: frames.length, pingMs: POLL_WAIT_MS, expiresAt: '', maxBytes: 0,
    });
  }

  /** @type {Transport['transmit']} */
  transmit(...frame) { return this.#posts.transmit(...frame); }

  close() { this.#gone.abort(); }
}

/** @type {Record<TransportName, new (wires: Wires) => Transport>} */
export const TRANSPORTS = { websocket: SocketTransport, sse: StreamTransport, poll: PollTransport };
