// @ts-check
/** @import {BridgeEvent} from './bridge-events.js' */
/** @import {EventFrame, GapFrame, RecalledFrame} from './bridge-protocol.js' */

const MAX_IDS = 4_096; // ids remembered for dropping repeats, and of messages seen that cannot be reported yet

/** @typedef {EventFrame | GapFrame | RecalledFrame} MailFrame */

/** Hands frames of the mailbox to the app one by one, each only when the app is done with the one before. */
export class Inbox {
  #on;
  /** @type {MailFrame[]} */ #queue = [];
  #busy = false;
  #run = 0; // counts connections: a handler that fails late is no fault of the next one
  #life = 0; // counts erasures: nothing handled before one may store a cursor after it
  /** @type {Set<string>} */ #ids = new Set();

  /**
   * @param {{give: (frame: MailFrame) => BridgeEvent<any>, handled: (cursor: string) => void,
   *   failed: (cause: unknown, live: boolean) => void}} on
   */
  constructor(on) { this.#on = on; }

  /** @param {MailFrame} frame */
  push(frame) {
    this.#queue.push(frame);
    this.#pump();
  }

  /** The connection is gone. What is unhandled comes again. */
  drop() {
    this.#run++;
    this.#queue = [];
  }

  /** The user was erased. */
  erase() {
    this.#life++;
    this.#ids.clear();
  }

  #pump() {
    while (!this.#busy) {
      const frame = this.#queue.shift();
      if (!frame) return;
      const [life, run] = [this.#life, this.#run];
      const repeat = frame.type === 'event' && this.#ids.has(frame.event.id);
      const work = repeat ? [] : this.#on.give(frame).work;
      if (work.length === 0) {
        this.#handled(frame, life);
        continue;
      }
      this.#busy = true;
      Promise.all(work).then(() => this.#handled(frame, life), (cause) => this.#on.failed(cause, run === this.#run))
        .finally(() => {
          this.#busy = false;
          this.#pump();
        });
    }
  }

  /** @param {MailFrame} frame @param {number} life */
  #handled(frame, life) {
    if (life !== this.#life || frame.type === 'recalled') return;
    if (frame.type === 'event') remember(this.#ids, frame.event.id);
    this.#on.handled(frame.cursor);
  }
}

/** Adds to a set that forgets its oldest. @param {Set<string>} set @param {string} id */
export function remember(set, id) {
  set.add(id);
  if (set.size > MAX_IDS) set.delete(/** @type {string} */ (set.values().next().value));
}
