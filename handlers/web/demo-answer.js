// @ts-check
/** The patient answers: what goes back to the clinic's backend. */
/** @import {BridgeClient, BridgeError, NewEvent} from './bridge-client.js' */
import { known, plain, say } from './demo-i18n.js';
import { byId, dateOf, element, light } from './demo-side.js';

export class Answers {
  #client;
  /** @type {Set<HTMLElement>} */ #excused = new Set();

  /** @param {BridgeClient} client */
  constructor(client) {
    this.#client = client;
    byId('slots').addEventListener('click', () => this.#ask());
    client.on('open', () => { // what failed without a connection may be tried again
      for (const note of this.#excused) plain(note, '');
      this.#excused.clear();
    });
  }

  /**
   * A button that tells the backend, once.
   * @param {string} label key of its words @param {NewEvent} event
   * @param {{ref: string, told: boolean, onTold: () => void}} options  the ref is the same on every device of the
   *   user, so that the backend hears of one answer however often it is given
   */
  button(label, event, { ref, told, onTold }) {
    const row = element('div', 'answer');
    const [button, note] = [/** @type {HTMLButtonElement} */ (element('button')), element('span', 'note')];
    button.type = 'button';
    note.setAttribute('role', 'status');
    note.tabIndex = -1;
    say(button, label);
    row.append(button, note);
    const done = () => {
      say(note, `told_${event.type}`);
      if (document.activeElement === button) note.focus(); // the keyboard's place
      button.remove();
    };
    if (told) done();
    button.addEventListener('click', async () => {
      if (!await this.#tell(button, note, event, ref)) return;
      done();
      onTold();
    });
    return row;
  }

  /** @param {HTMLElement} button @param {HTMLElement} note @param {NewEvent} event @param {string} [ref] */
  #tell(button, note, event, ref) {
    return this.#whileBusy(button, note, 'telling', () => this.#client.send({ backend: true }, event, { ref }));
  }

  async #ask() {
    const [note, list] = [byId('slots-note'), byId('slots-list')];
    await this.#whileBusy(byId('slots'), note, 'asking', async () => {
      list.replaceChildren();
      const { data } = await this.#client.request({ type: 'slots.list' });
      /** @type {string[]} */
      const slots = Array.isArray(data?.slots) ? data.slots.filter((/** @type {any} */ slot) => typeof slot === 'string') : [];
      say(note, slots.length > 0 ? 'slotsCame' : 'slotsNone');
      list.append(...slots.map((slot) => this.#slot(slot, note, list)));
    });
  }

  /** @param {string} slot @param {HTMLElement} note @param {HTMLElement} list */
  #slot(slot, note, list) {
    const button = /** @type {HTMLButtonElement} */ (element('button'));
    button.type = 'button';
    say(button, 'slot', { slot: dateOf(slot) });
    const event = { type: 'visit.chosen', data: { slot } };
    button.addEventListener('click', async () => {
      if (!await this.#tell(button, note, event)) return;
      say(note, `told_${event.type}`);
      if (document.activeElement === button) byId('slots').focus(); // the keyboard's place
      list.replaceChildren();
    });
    return button;
  }

  /**
   * Does something once at a time. A button that is disabled would lose the keyboard's focus.
   * @param {HTMLElement} button @param {HTMLElement} note @param {string} words @param {() => Promise<any>} act
   * @returns {Promise<boolean>} whether it worked; the note says why not
   */
  async #whileBusy(button, note, words, act) {
    if (button.ariaDisabled === 'true') return false;
    button.ariaDisabled = 'true';
    say(note, words);
    try {
      await act();
      lightBack();
      return true;
    } catch (err) {
      this.#excuse(note, /** @type {BridgeError} */ (err));
      return false;
    } finally {
      button.ariaDisabled = 'false';
    }
  }

  /** Why it did not work. @param {HTMLElement} note @param {BridgeError} err */
  #excuse(note, { code, message }) {
    if (known(`excuse_${code}`)) say(note, `excuse_${code}`);
    else say(note, 'excuse', { why: message });
    this.#excused.add(note);
  }
}

function lightBack() {
  light('phone');
  light('2', 'back');
  light('bridge');
}
