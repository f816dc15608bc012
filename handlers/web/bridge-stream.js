// @ts-check
/** @import {Transport, Wires} from './bridge-transports.js' */
import { ask, atV1, endOf } from './bridge-http.js';
import { Posts } from './bridge-posts.js';

/**
 * Reads an event stream (WHATWG HTML §9.2.6) from bytes cut anywhere. Frames carry their own cursor, and coming back is
 * the client's own business, so the fields `id` and `retry` are passed over like unknown ones.
 */
export class EventParser {
  #decoder = new TextDecoder(); // drops a BOM, and puts characters together that were cut
  #rest = '';
  #afterCR = false; // a line feed now belongs to the line end before it
  #type = '';
  /** @type {string[]} */ #data = [];
  #event;

  /** @param {(type: string, data: string) => void} event */
  constructor(event) { this.#event = event; }

  /** @param {Uint8Array} bytes */
  feed(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return;
    if (this.#afterCR && text[0] === '\n') text = text.slice(1);
    this.#afterCR = text === '' ? false : text.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':'); // at 0 it is a comment, which is the field '' here and ignored like any other
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'event') this.#type = value;
    else if (name === 'data') this.#data.push(value);
  }

  #dispatch() {
    const [type, data] = [this.#type, this.#data];
    this.#type = '';
    this.#data = [];
    if (data.length > 0) this.#event(type || 'message', data.join('\n'));
  }
}

/** Server-sent events, read with fetch: EventSource cannot send a token but in the URL. */
export class StreamTransport {
  twoWay = false;
  #wires;
  #gone = new AbortController();
  #posts;

  /** @param {Wires} wires */
  constructor(wires) {
    this.#wires = wires;
    this.#posts = new Posts(wires, this.#gone.signal);
  }

  open() { this.#read(); }

  async #read() {
    const { after, end, heard, opened } = this.#wires;
    const { signal } = this.#gone;
    try {
      const url = atV1(this.#wires, 'stream', { ...(after && { after }) });
      const response = await ask(this.#wires, url, { signal, headers: { Accept: 'text/event-stream' } });
      if (signal.aborted) return;
      const refusal = await endOf(response, 'text/event-stream');
      if (signal.aborted) return;
      if (refusal) return end(...refusal);
      opened();
      const parser = new EventParser((type, data) => this.#event(type, data));
      const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (done) return end(1006, 'the stream ended');
        heard();
        parser.feed(value);
      }
    } catch (cause) {
      if (!signal.aborted) end(1006, `the stream failed: ${cause}`);
    }
  }

  /** @param {string} type @param {string} data */
  #event(type, data) {
    if (this.#gone.signal.aborted) return; // an event before this one in the same bytes has ended it all
    if (type !== 'close') return this.#wires.frame(data);
    const { code = 1006, reason = '' } = JSON.parse(data);
    this.#wires.end(code, reason);
  }

  /** @type {Transport['transmit']} */
  transmit(...frame) { return this.#posts.transmit(...frame); }

  close() { this.#gone.abort(); }
}
