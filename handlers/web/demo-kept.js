// @ts-check
/** What the phone shows, kept for a reload: the app has acked it, and the bridge does not send it again. */
/** @import {EventFrame} from './bridge-protocol.js' */

/** @typedef {{frame: EventFrame, seen?: boolean, told?: boolean}} Message */

const LENGTH = 200;

export class Kept {
  #key;
  /** @type {Message[]} oldest first */ messages = [];

  /** @param {string} user */
  constructor(user) {
    this.#key = `hookbridge-demo:${user}:messages`;
    try {
      this.messages = JSON.parse(sessionStorage.getItem(this.#key) ?? '[]');
    } catch { /* no storage, or not ours: a phone that forgets */ }
  }

  /** @param {Message} message */
  add(message) {
    this.messages.push(message);
    if (this.messages.length > LENGTH) this.messages.shift();
    this.save();
  }

  /** @param {string} id the event's */
  remove(id) {
    this.messages = this.messages.filter(({ frame }) => frame.event.id !== id);
    this.save();
  }

  /** The user was erased. */
  clear() {
    this.messages = [];
    this.save();
  }

  save() {
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(this.messages));
    } catch { // full, or forbidden
      if (this.messages.length === 0) return;
      this.messages = this.messages.slice(Math.ceil(this.messages.length / 2)); // the newer half, if it fits
      this.save();
    }
  }
}
