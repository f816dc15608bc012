// @ts-check
/** One person on the demo page: a client, and what there is to know about its connection. */
import { BridgeClient, storageCursor } from './bridge-client.js';
import { known, plain, say } from './demo-i18n.js';

/** @param {string} tag @param {string} [className] @param {string} [text] */
export function element(tag, className = '', text = '') {
  const el = document.createElement(tag);
  if (className) el.className = className;
  if (text) el.textContent = text; // payloads come through here, and never as markup
  return el;
}

/** @param {string} id @returns {HTMLElement} */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Asks the demo's backend. @param {string} path @param {object} body @returns {Promise<any>} */
export async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  });
  const reply = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(reply.detail || reply.title || `${path}: ${response.status}`);
  return reply;
}

/** Speaks to those who listen rather than look. @param {string} key @param {Record<string, any>} args */
export const announce = (key, args) => say(byId('live'), key, args);

/** Lights a stop or a wire of the route for a moment. @param {string} part @param {'back'} [way] from the patient */
export function light(part, way) {
  const el = document.querySelector(`[data-stop="${part}"], [data-wire="${part}"]`);
  el?.classList.remove('lit');
  el?.classList.toggle('back', way === 'back');
  void (/** @type {HTMLElement} */ (el)?.offsetWidth); // lets the animation begin anew
  el?.classList.add('lit');
}

/** A time of day. @param {string} timestamp */
export function clock(timestamp) {
  const [el, at] = [/** @type {HTMLTimeElement} */ (element('time')), dateOf(timestamp)];
  if (at instanceof Date) {
    el.dateTime = timestamp;
    say(el, 'clock', { at: { clock: at } });
  }
  return el;
}

/** The time that a text names, else the text. @param {string} text */
export function dateOf(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? text : at;
}

export class Side {
  #pill;
  /** @type {Record<string, HTMLElement>} */ #facts = {};
  #countdown = 0;

  /** @param {string} id the section's @param {string} user */
  constructor(id, user) {
    this.root = byId(id);
    this.id = id;
    this.user = user;
    this.#pill = /** @type {HTMLElement} */ (this.root.querySelector('[data-pill]'));
    /** @type {HTMLElement} */ (this.root.querySelector('[data-id]')).textContent = user;
    this.#buildFacts();
    // A cursor a tab: every window is a device of its own, and a reload is the same device.
    const cursorStore = storageCursor(`hookbridge-demo:${user}`, () => sessionStorage);
    const getToken = async () => (await post('/demo/tokens', { user })).token;
    this.client = new BridgeClient({ url: '/ws', user, cursorStore, getToken });
    this.client.on('state', (detail) => this.#showState(detail));
    this.client.on('open', ({ session }) => plain(this.#facts.session, session));
    this.client.on('message', () => this.#showCursor());
    this.client.on('gap', () => this.#showCursor());
    this.client.on('close', ({ code }) => {
      say(this.#facts.session, 'fact_none');
      const key = known(`close_${code}`) ? `close_${code}` : 'close_other';
      say(this.#facts.close, 'fact_closed', { code, meaning: { key } });
    });
  }

  #buildFacts() {
    const list = /** @type {HTMLElement} */ (this.root.querySelector('[data-facts]'));
    for (const name of ['session', 'cursor', 'close']) {
      const [row, term, value] = [element('div'), element('dt'), element('dd')];
      say(term, `fact_${name}`);
      say(value, 'fact_none');
      row.append(term, value);
      list.append(row);
      this.#facts[name] = value;
    }
  }

  /** The cursor moves after the last handler is done, so it is read a turn later. */
  #showCursor() {
    setTimeout(() => {
      if (this.client.cursor !== null) plain(this.#facts.cursor, this.client.cursor);
    });
  }

  /** @param {import('./bridge-protocol.js').StateDetail} detail */
  #showState({ state, retryInMs = 0, code }) {
    clearInterval(this.#countdown);
    const until = Date.now() + retryInMs;
    const key = state === 'stopped' && code === 1000 && this.id === 'patient' ? 'state_pocket' : `state_${state}`;
    const show = () => say(this.#pill, key, { n: Math.max(0, Math.ceil((until - Date.now()) / 1000)) });
    show();
    if (retryInMs > 0) this.#countdown = window.setInterval(show, 500);
    this.#pill.dataset.state = state;
    this.root.dataset.state = state;
    if (state === 'connected') this.#showCursor();
    // Every second of a countdown read aloud would bury the messages.
    if (state !== 'connecting' && retryInMs === 0) announce('said_state', { who: { key: this.id }, state: { key } });
  }
}
