// @ts-check
/** The patient: a phone that rings, a pocket to put it into, and messages that waited. */
import { announce, Side, byId, clock, element, light } from './demo-side.js';
import { Answers } from './demo-answer.js';
import { Kept } from './demo-kept.js';
import { say, t } from './demo-i18n.js';

/** @typedef {import('./bridge-protocol.js').EventFrame} EventFrame */
/** @typedef {import('./demo-kept.js').Message} Message */

const LIST_LENGTH = 200;
const ERASED = 4410;

export class Patient extends Side {
  /** @type {Map<string, HTMLElement>} by event id, the messages on the screen */ #items = new Map();
  /** @type {Set<string>} */ #fresh = new Set();
  /** @type {AudioContext | null} */ #audio = null;
  #answers = new Answers(this.client);
  #kept;

  /** @param {string} user @param {() => void} onOpen */
  constructor(user, onOpen) {
    super('patient', user);
    this.#kept = new Kept(user);
    for (const message of this.#kept.messages) this.#show(message);
    this.#showCount();
    this.client.on('message', (frame) => this.#receive(frame));
    this.client.on('gap', ({ reason }) => this.#gap(reason));
    this.client.on('recalled', ({ id }) => this.#takeBack(id));
    this.client.on('open', onOpen);
    this.client.on('close', ({ code }) => {
      if (code === ERASED) this.#forget();
    });
    byId('bell').addEventListener('click', () => this.#markSeen());
    byId('pocket').addEventListener('change', (e) => {
      if (/** @type {HTMLInputElement} */ (e.target).checked) this.client.close();
      else this.client.connect();
    });
    byId('chime').addEventListener('change', (e) => {
      // Browsers let a page sound only after a gesture, and this is one.
      this.#audio = /** @type {HTMLInputElement} */ (e.target).checked ? new AudioContext() : null;
      this.#sound();
    });
  }

  /** @param {EventFrame} frame */
  #receive(frame) {
    if (this.#items.has(frame.event.id)) return; // from before a reload that came before the cursor was stored
    const message = { frame };
    this.#kept.add(message);
    const what = this.#show(message);
    this.#ring();
    announce('said_new', { what });
  }

  /** Puts a message on the screen. @param {Message} message */
  #show(message) {
    const { event, from, replay } = message.frame;
    const item = element('li', 'message');
    const head = element('p', 'about');
    const about = element('span');
    const what = wordsOf(event);
    if (event.type === 'patient.added') say(about, 'about_added');
    else if (event.type.includes('announcement')) say(about, 'about_all');
    else if (from) say(about, 'about_message', { from });
    else say(about, 'about_clinic');
    head.append(about);
    if (replay) {
      const mark = element('span', 'waited');
      say(mark, 'waited');
      head.append(mark);
    }
    head.append(clock(event.timestamp));
    const text = element('p', 'text');
    say(text, what.key, what.args);
    item.append(head, text);
    if (event.type === 'patient.added') {
      const onTold = () => {
        message.told = true;
        this.#kept.save();
      };
      item.append(this.#answers.button('confirm', { type: 'visit.confirmed', data: { id: event.id } },
        { ref: `confirm ${event.id}`, told: message.told ?? false, onTold }));
    }
    this.#add(item);
    this.#items.set(event.id, item);
    if (!message.seen) {
      item.classList.add('fresh');
      this.#fresh.add(event.id);
    }
    return what;
  }

  /** @param {HTMLElement} item */
  #add(item) {
    const list = byId('messages');
    list.prepend(item);
    if (list.children.length > LIST_LENGTH) list.lastElementChild?.remove();
    byId('messages-empty').hidden = true;
  }

  /** @param {string} reason */
  #gap(reason) {
    const item = element('li', 'gap');
    say(item, 'gap', { reason });
    this.#add(item);
  }

  /** @param {string} id */
  #takeBack(id) {
    this.#kept.remove(id);
    const item = this.#items.get(id);
    if (!item) return;
    item.classList.add('recalled');
    say(/** @type {HTMLElement} */ (item.querySelector('.text')), 'recalled');
    item.querySelector('.answer')?.remove();
    this.#fresh.delete(id);
    this.#showCount();
  }

  /** The user was erased: nothing of theirs stays. */
  #forget() {
    this.#kept.clear();
    this.#items.clear();
    this.#fresh.clear();
    byId('messages').replaceChildren();
    byId('messages-empty').hidden = false;
    this.#showCount();
  }

  #ring() {
    const bell = byId('bell');
    for (const part of ['bridge', '2', 'phone']) light(part);
    bell.classList.remove('ringing');
    void bell.offsetWidth; // lets the animation begin anew
    bell.classList.add('ringing');
    this.#sound();
    this.#showCount();
  }

  /** Two soft notes. */
  #sound() {
    const audio = this.#audio;
    if (!audio) return;
    for (const [note, after] of [[880, 0], [1174.7, 0.16]]) {
      const [tone, volume, start] = [audio.createOscillator(), audio.createGain(), audio.currentTime + after];
      tone.frequency.value = note;
      volume.gain.setValueAtTime(0, start);
      volume.gain.linearRampToValueAtTime(0.14, start + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.001, start + 0.7);
      tone.connect(volume).connect(audio.destination);
      tone.start(start);
      tone.stop(start + 0.75);
    }
  }

  #markSeen() {
    for (const id of this.#fresh) {
      this.client.seen(id);
      this.#items.get(id)?.classList.remove('fresh');
    }
    for (const message of this.#kept.messages) message.seen = true;
    this.#kept.save();
    this.#fresh.clear();
    this.#showCount();
  }

  #showCount() {
    const n = this.#fresh.size;
    byId('bell').dataset.count = String(n);
    byId('bell-count').textContent = n > 99 ? '99+' : String(n);
    say(byId('bell-label'), n ? 'bell_some' : 'bell_none', { n });
    document.title = n ? `(${n}) ${t('title')}` : t('title');
  }
}

/**
 * What a message says: an addition in the language of the page, anything else in the words of the sender.
 * @param {EventFrame['event']} event
 */
function wordsOf({ type, data }) {
  if (type === 'patient.added' && data?.name && data.doctorId) {
    return { key: 'added', args: { name: String(data.name), doctor: String(data.doctorId) } };
  }
  const text = typeof data?.message === 'string' ? data.message : JSON.stringify(data ?? null);
  return { key: 'payload', args: { text } };
}
