// @ts-check
/** What the clinic's backend heard about the patient, by the bridge's signed callbacks. */
import { known, say } from './demo-i18n.js';
import { announce, byId, clock, dateOf, element, light } from './demo-side.js';

/**
 * @typedef {{type: string, timestamp: string, data: any}} Body
 * @typedef {{id: string, body: Body}} Callback
 */

const ASK_EVERY_MS = 1_000;
const LIST_LENGTH = 50;

export class Heard {
  #patient;
  #tell;
  #last = -1; // the number of the last one that is shown; -1: the page has just come
  #timer = 0;

  /** @param {string} patient @param {(body: Body) => void} tell */
  constructor(patient, tell) {
    this.#patient = patient;
    this.#tell = tell;
  }

  /** Asks again and again, as long as there is somebody to ask. */
  start() {
    this.stop();
    const timer = this.#timer = window.setTimeout(async () => {
      await this.#ask();
      if (timer === this.#timer) this.start();
    }, ASK_EVERY_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  async #ask() {
    const since = this.#last;
    const query = new URLSearchParams({ user: this.#patient, after: String(Math.max(0, since)) });
    /** @type {{last: number, callbacks: Callback[]} | null} */
    const told = await fetch(`/demo/callbacks?${query}`).then((response) => (response.ok ? response.json() : null))
      .catch(() => null); // the client tells that nobody is there
    if (!told) return;
    const { last, callbacks } = told;
    if (since !== this.#last) return; // another ask, before a reconnect, was slow and has shown these
    if (callbacks.length > 0 && since >= 0) this.#lightWay();
    for (const callback of callbacks) this.#show(callback);
    const { body } = callbacks.filter((callback) => callback.body.type === 'event.unacked').at(-1) ?? {};
    if (body && since >= 0) announce('why_phone', wordsOf(body).args);
    this.#last = Math.max(since, last); // a backend that began anew has heard nothing at first
  }

  #lightWay() {
    say(byId('wire-1'), 'wireCallback');
    light('bridge');
    light('1', 'back');
    light('clinic');
  }

  /** @param {Callback} callback */
  #show({ id, body }) {
    const list = byId('heard');
    const parts = {
      item: element('li'), head: element('div', 'head'), title: element('p', 'title'), what: element('span'),
      type: element('code', 'type', body.type), time: clock(body.timestamp),
      steps: element('details'), summary: element('summary'), label: element('p'),
    };
    const { key, args } = wordsOf(body);
    say(parts.what, key, args);
    say(parts.summary, 'whatCame');
    say(parts.label, body.type === 'request' ? 'step_request_heard' : 'step_callback');
    parts.item.dataset.type = body.type;
    parts.title.append(parts.what);
    parts.head.append(parts.title, parts.time);
    parts.steps.append(parts.summary, parts.label, element('pre', '', `webhook-id: ${id}\n\n${JSON.stringify(body, null, 2)}`));
    parts.item.append(parts.head, parts.type, parts.steps);
    list.prepend(parts.item);
    if (list.children.length > LIST_LENGTH) list.lastElementChild?.remove();
    byId('heard-empty').hidden = true;
    this.#tell(body);
  }
}

/** @param {Body} body */
function wordsOf({ type, data }) {
  const args = { who: data.user ?? data.from, event: data.type ?? data.event?.type, n: data.afterSeconds, slot: slotOf(data) };
  const special = `heard_${args.event}`;
  if ((type === 'message.sent' || type === 'request') && known(special)) return { key: special, args };
  return { key: known(`heard_${type}`) ? `heard_${type}` : 'heard_other', args: { ...args, type } };
}

/** The slot that a patient has chosen. What users send may be anything. @param {any} data */
function slotOf({ event }) {
  const slot = event?.data?.slot;
  return typeof slot === 'string' ? dateOf(slot) : '';
}
