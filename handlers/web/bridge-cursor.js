// @ts-check
/** @import {CursorStore, StorageLike} from './bridge-protocol.js' */

const MAX_CURSOR = 512; // characters; the server's have some forty

/**
 * A cursor in web storage, or in anything of its form, such as React Native's AsyncStorage. A storage that is forbidden
 * or full costs nothing but the memory of a reload.
 * @param {string} key @param {() => StorageLike} [storage] @returns {CursorStore}
 */
export function storageCursor(key, storage = () => /** @type {any} */ (globalThis).localStorage) {
  const attempt = (/** @type {() => any} */ use) => {
    try {
      const done = use();
      return typeof done?.then === 'function' ? done.then(undefined, () => null) : done;
    } catch {
      return null;
    }
  };
  return {
    load: () => attempt(() => storage().getItem(key)),
    save: (cursor) => attempt(() => storage().setItem(key, cursor)),
    clear: () => attempt(() => storage().removeItem(key)),
  };
}

/** The place up to which the app has handled everything, here and in the store that outlives this page. */
export class Place {
  /** @type {string | null} */ cursor = null;
  #store;
  #report;

  /** @param {CursorStore | null} store @param {(cause: unknown) => void} report */
  constructor(store, report) {
    this.#store = store;
    this.#report = report;
  }

  /** Reads the store. A promise only where the store gives one. @returns {PromiseLike<void> | undefined} */
  load() {
    if (this.cursor !== null) return undefined;
    return this.#try((store) => {
      const found = store.load();
      if (typeof found === 'object' && found) return found.then((cursor) => this.#found(cursor));
      this.#found(found);
    });
  }

  /** @param {string | null} cursor */
  #found(cursor) {
    if (typeof cursor === 'string' && cursor.length <= MAX_CURSOR) this.cursor ??= cursor || null;
  }

  /** @param {string} cursor */
  move(cursor) {
    this.cursor = cursor;
    this.#try((store) => store.save(cursor));
  }

  clear() {
    this.cursor = null;
    this.#try((store) => store.clear());
  }

  /** A store that fails costs a repeat after the next start, never the connection. @param {(store: CursorStore) => any} use */
  #try(use) {
    try {
      return this.#store && use(this.#store)?.then(undefined, this.#report);
    } catch (cause) {
      this.#report(cause);
    }
  }
}
