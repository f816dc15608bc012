// Drives one BridgeClient for the Go tests: a clock turned by hand, a log of all that happens, promises to wait for.
import { BridgeClient } from '/bridge-client.js';

const clock = {
  now: 1_000_000, next: 1, timers: new Map(),
  setTimeout(fn, ms) {
    clock.timers.set(clock.next, { fn, at: clock.now + ms });
    return clock.next++;
  },
  clearTimeout(id) { clock.timers.delete(id); },
  advance(ms) {
    const end = clock.now + ms;
    for (;;) {
      const due = [...clock.timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      clock.timers.delete(due[0]);
      clock.now = due[1].at;
      due[1].fn();
    }
    clock.now = end;
  },
  /** Resolves once something waits for just so long. */
  waiting: (ms) => new Promise((resolve) => {
    const look = () => ([...clock.timers.values()].some(({ at }) => at === clock.now + ms) ? resolve() : setTimeout(look, 5));
    look();
  }),
  /** Time passes as in a hidden page, or in a machine that sleeps: what is due meanwhile fires at the end, once. */
  late(ms) {
    clock.now += ms;
    const due = [...clock.timers].filter(([, timer]) => timer.at <= clock.now);
    for (const [id] of due) clock.timers.delete(id);
    for (const [, timer] of due) timer.fn();
  },
};

const log = [];
let waiters = [];

/** The browser's own, and a note of each answer, and each piece of one, once the client has read it. */
async function heardFetch(what, init) {
  const response = await fetch(what, init);
  const pieces = new TransformStream({
    transform(piece, out) {
      out.enqueue(piece);
      setTimeout(() => note('piece', piece.length));
    },
  });
  const { status, headers } = response;
  setTimeout(() => note('answer', status));
  if (status === 204) return response; // has no body, and may have none
  return new Response(response.body.pipeThrough(pieces), { status, headers });
}

function note(kind, detail) {
  log.push({ kind, detail });
  waiters = waiters.filter((ready) => !ready());
}

window.h = {
  clock, log,
  all: (kind) => log.filter((entry) => entry.kind === kind).map((entry) => entry.detail),
  until: (kind, n) => new Promise((resolve) => {
    const ready = () => {
      const found = h.all(kind);
      if (found.length >= n) resolve(found);
      return found.length >= n;
    };
    if (!ready()) waiters.push(ready);
  }),
  /** stored: the cursor at the start, undefined for the default store. handle: what the app does with a message. */
  make({ random = 0.5, stored, user, handle = () => {}, token = (n) => `token-${n}`, ...options } = {}) {
    let tokens = 0;
    const cursorStore = stored === undefined ? undefined : {
      load: () => stored,
      save: (cursor) => note('stored', cursor),
      clear: () => note('cleared', true),
    };
    const client = new BridgeClient({
      url: '/ws', user, cursorStore, now: () => clock.now, random: () => random,
      setTimeout: clock.setTimeout, clearTimeout: clock.clearTimeout, fetch: heardFetch,
      getToken: async ({ reason }) => {
        note('token', reason);
        return token(++tokens);
      },
      ...options,
    });
    for (const kind of ['open', 'state', 'gap', 'recalled', 'refreshed', 'close']) {
      client.on(kind, (detail) => note(kind, detail));
    }
    client.on('error', (error) => note('error', { code: error.code, problem: error.problem }));
    client.on('message', (frame) => {
      note('message', frame);
      return handle(frame);
    });
    h.client = client;
    client.connect();
  },
  send: (...args) => {
    h.client.send(...args).then((result) => note('result', result),
      (error) => note('refused', error.code ?? `${error}`));
  },
  request: (...args) => {
    h.client.request(...args).then((answer) => note('response', answer),
      (error) => note('refused', error.problem?.backendStatus ? `${error.code} ${error.problem.backendStatus}` : error.code));
  },
};
