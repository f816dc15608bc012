// @ts-check
/** The patient answers: what goes back to the clinic's backend. */
/** @import {BridgeClient, BridgeError, NewEvent} from './bridge-client.js' */
import { known, plain, say } from './demo-i18n.js';
import { byId, element, light } from './demo-side.js';

export class Answers {
  #client;

  /** @param {BridgeClient} client */
  constructor(client) {
    this.#client = client;
    byId('slots').addEventListener('click', () => this.#ask());
  }

  /** A button that tells the backend, once. @param {string} label key of its words @param {NewEvent} event */
  button(label, event) {
    const row = element('div', 'answer');
    const [button, note] = [/** @type {HTMLButtonElement} */ (element('button')), element('span', 'note')];
    button.type = 'button';
    note.setAttribute('role', 'status');
    say(button, label);
    button.addEventListener('click', async () => {
      if (await this.#tell(button, note, event)) button.remove();
    });
    row.append(button, note);
    return row;
  }

  /** @param {HTMLButtonElement} button @param {HTMLElement} note @param {NewEvent} event */
  async #tell(button, note, event) {
    button.disabled = true;
    say(note, 'telling');
    try {
      await this.#client.send({ backend: true }, event);
      lightBack();
      say(note, `told_${event.type}`);
      return true;
    } catch (err) {
      button.disabled = false;
      excuse(note, /** @type {BridgeError} */ (err));
      return false;
    }
  }

  async #ask() {
    const [button, note, list] = [/** @type {HTMLButtonElement} */ (byId('slots')), byId('slots-note'), byId('slots-list')];
    button.disabled = true;
    say(note, 'asking');
    list.replaceChildren();
    try {
      const { data } = await this.#client.request({ type: 'slots.list' });
      lightBack();
      const slots = Array.isArray(data?.slots) ? data.slots.map(String) : [];
      say(note, slots.length > 0 ? 'slotsCame' : 'slotsNone');
      list.append(...slots.map((/** @type {string} */ slot) => this.#slot(slot, note, list)));
    } catch (err) {
      excuse(note, /** @type {BridgeError} */ (err));
    }
    button.disabled = false;
  }

  /** @param {string} slot @param {HTMLElement} note @param {HTMLElement} list */
  #slot(slot, note, list) {
    const button = /** @type {HTMLButtonElement} */ (element('button'));
    button.type = 'button';
    const at = new Date(slot);
    if (Number.isNaN(at.getTime())) plain(button, slot);
    else say(button, 'slot', { at });
    button.addEventListener('click', async () => {
      if (await this.#tell(button, note, { type: 'visit.chosen', data: { slot } })) list.replaceChildren();
    });
    return button;
  }
}

function lightBack() {
  light('phone');
  light('2', 'back');
  light('bridge');
}

/** Why it did not work. @param {HTMLElement} note @param {BridgeError} err */
function excuse(note, { code, message }) {
  if (known(`excuse_${code}`)) say(note, `excuse_${code}`);
  else say(note, 'excuse', { why: message });
}
