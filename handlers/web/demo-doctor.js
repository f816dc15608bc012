// @ts-check
/** The doctor: three ways to say something, and a record of what the bridge answered to each. */
import { known, plain, say } from './demo-i18n.js';
import { Side, byId, element, light, post } from './demo-side.js';
import { Heard } from './demo-heard.js';
import { newRef } from './bridge-protocol.js';

/** @typedef {import('./bridge-protocol.js').SendResult} SendResult */
/** @typedef {import('./demo-heard.js').Body} Body */
/** @typedef {{mark: HTMLElement, why: HTMLElement, steps: HTMLElement}} Entry */

const LOG_LENGTH = 50;
const NEWS_LENGTH = 200;

export class Doctor extends Side {
  #patient;
  /** @type {Map<string, Entry>} by event id */ #entries = new Map();
  /** @type {Map<string, Body>} by event id, what the backend heard of it last */ #news = new Map();

  /** @param {string} user @param {string} patient @param {() => void} onQueued */
  constructor(user, patient, onQueued) {
    super('doctor', user);
    this.#patient = patient;
    this.onQueued = onQueued;
    const heard = new Heard(patient, (body) => this.#hear(body));
    this.client.on('open', () => heard.start());
    this.client.on('close', () => heard.stop());
    this.#form('add', (name) => this.#byBackend('did_add', { who: name }, '/demo/patients',
      { doctor: this.user, patient: this.#patient, name }));
    this.#form('announce', (message) => this.#byBackend('did_announce', { text: message },
      '/demo/announcements', { message }));
    this.#form('write', (message) => this.#bySocket(message));
  }

  /** @param {string} id @param {(text: string) => void} act */
  #form(id, act) {
    const form = /** @type {HTMLFormElement} */ (byId(id));
    const input = /** @type {HTMLInputElement} */ (form.querySelector('input'));
    form.addEventListener('submit', (e) => {
      e.preventDefault();
      const text = input.value.trim();
      if (!text) return;
      act(text);
      if (id === 'add') return; // adding the same patient again is how one tries it again
      input.value = '';
      input.focus();
    });
  }

  /**
   * Way 1: the backend calls the bridge.
   * @param {string} did @param {Record<string, string>} args @param {string} path @param {object} body
   */
  async #byBackend(did, args, path, body) {
    this.#lightFirstWire('wireWebhook');
    const entry = this.#entry('way1', did, args);
    try {
      const { status, request, reply } = await post(path, body);
      const headers = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`).join('\n');
      this.#step(entry, 'step_request', `POST /webhooks/events\n${headers}\n\n${request.body}`);
      this.#step(entry, 'step_reply', JSON.stringify(reply, null, 2), { status });
      if (status === 202) this.#outcome(entry, reply);
      else this.#trouble(entry, 'refused', reply.detail || reply.title || String(status));
    } catch (err) {
      this.#trouble(entry, 'failed', String(/** @type {Error} */ (err).message));
      if (err instanceof TypeError) say(entry.why, 'why_unreachable'); // the browser's own words are in one language
    }
  }

  /** Way 2: the page sends over its own socket. @param {string} message */
  async #bySocket(message) {
    this.#lightFirstWire('wireSocket');
    const entry = this.#entry('way2', 'did_write', { text: message });
    const [ref, event] = [newRef(), { type: 'chat.message', data: { message } }];
    this.#step(entry, 'step_frame', JSON.stringify({ type: 'send', ref, to: { user: this.#patient }, event }, null, 2));
    try {
      const result = await this.client.send(this.#patient, event, { ref });
      this.#step(entry, 'step_result', JSON.stringify(result, null, 2));
      this.#outcome(entry, result);
    } catch (err) {
      const { code, message: why, problem } = /** @type {import('./bridge-client.js').BridgeError} */ (err);
      if (problem) this.#step(entry, 'step_result', JSON.stringify(problem, null, 2));
      this.#trouble(entry, problem ? 'refused' : 'failed', why);
      if (known(`unsent_${code}`)) say(entry.why, `unsent_${code}`);
    }
  }

  /** @param {string} wire what the first wire is, this time */
  #lightFirstWire(wire) {
    say(byId('wire-1'), wire);
    for (const part of ['clinic', '1', 'bridge']) light(part);
  }

  /** @param {string} way @param {string} did @param {Record<string, string>} args */
  #entry(way, did, args) {
    const log = byId('log');
    const parts = {
      item: element('li'), title: element('p', 'title'), mark: element('span', 'mark'), why: element('p', 'why'),
      steps: element('details'), summary: element('summary'),
    };
    const [head, tag, what] = [element('div', 'head'), element('b', 'tag'), element('span')];
    say(tag, way);
    say(what, did, args);
    parts.title.append(tag, ' ', what);
    head.append(parts.title, parts.mark);
    say(parts.mark, 'sending');
    say(parts.summary, 'whatHappened');
    parts.steps.append(parts.summary);
    parts.item.append(head, parts.why, parts.steps);
    log.prepend(parts.item);
    if (log.children.length > LOG_LENGTH) log.lastElementChild?.remove();
    byId('log-empty').hidden = true;
    return parts;
  }

  /** @param {Entry} entry @param {string} key @param {string} text @param {object} [args] */
  #step(entry, key, text, args = {}) {
    const label = element('p');
    say(label, key, args);
    entry.steps.append(label, element('pre', '', text));
  }

  /** The bridge's own word on what became of it. @param {Entry} entry @param {SendResult} result */
  #outcome(entry, { id, status, sessions }) {
    this.#entries.set(id, entry);
    entry.mark.dataset.status = status;
    if (!known(`status_${status}`)) return plain(entry.mark, status);
    say(entry.mark, `status_${status}`);
    const count = { key: sessions === 1 ? 'session_one' : 'session_many', args: { n: sessions } };
    say(entry.why, `why_${status}`, { n: count });
    if (status === 'queued') this.onQueued();
    this.#follow(id);
  }

  /** What the backend heard may be news of an event in the record. @param {Body} body */
  #hear(body) {
    const { type, data } = body;
    if (type !== 'event.acked' && type !== 'event.unacked') return;
    if (this.#news.get(data.id)?.type === 'event.acked') return; // a call that was due before, and is told late
    this.#news.set(data.id, body);
    if (this.#news.size > NEWS_LENGTH) this.#news.delete(this.#news.keys().next().value ?? '');
    this.#follow(data.id);
  }

  /** @param {string} id */
  #follow(id) {
    const [entry, news] = [this.#entries.get(id), this.#news.get(id)];
    if (!entry || !news) return;
    const word = news.type === 'event.acked' ? 'acked' : 'phone';
    entry.mark.dataset.status = word;
    say(entry.mark, `status_${word}`);
    say(entry.why, `why_${word}`, { n: news.data.afterSeconds, who: news.data.user });
  }

  /** @param {Entry} entry @param {'refused' | 'failed'} status @param {string} why */
  #trouble(entry, status, why) {
    entry.mark.dataset.status = status;
    say(entry.mark, `status_${status}`);
    plain(entry.why, why);
  }
}
