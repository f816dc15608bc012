// @ts-check
/** @import {BridgeEvents, BridgeOptions, ClosePlan, ConnectedFrame, CursorStore, EventFrame, GapFrame, Problem,
 *  RecalledFrame, SendResult, StateDetail, Target} from './bridge-protocol.js' */
import { BridgeError, BridgeEvent, PLANS, SUBPROTOCOL, backoffMs, newRef, storageCursor } from './bridge-protocol.js';
import { Sends, Timers } from './bridge-sends.js';
export { BridgeError, BridgeEvent, storageCursor };

const ADVICE_MAX_MS = 600_000; // an afterMs beyond this is a mistake, and setTimeout overflows on huge ones
const STABLE_MS = 10_000; // a connection this old has proven its token and its server
const ANSWER_MS = 10_000; // how long a ping may stay unanswered
const DEFAULT_PING_MS = 25_000;
const MAX_IDS = 4_096; // ids remembered for dropping repeats

/**
 * The browser's side of Hookbridge: one WebSocket that comes back by itself, reads one user's mailbox in order, and
 * never lets a message pass that the app has not handled. No dependencies; runs wherever WebSocket and EventTarget do.
 *
 *   const client = new BridgeClient({ url: 'wss://bridge.example/ws', user: 'patient-42', getToken });
 *   client.on('message', async ({ event, from, replay }) => { await show(event); });
 *   client.connect();
 *
 * A message counts as handled when every `on('message')` handler has returned or resolved; only then does the cursor
 * move, is it stored, and is it acked. A handler that throws or rejects gets the message again on a new connection.
 */
export class BridgeClient extends EventTarget {
  #o;
  #url;
  /** @type {CursorStore | null} */ #store;
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {StateDetail} */ #state = { state: 'stopped' };
  /** @type {ConnectedFrame | null} */ #session = null;
  /** @type {string | null} */ #cursor = null;
  #timers;
  #sends;
  /** @type {AbortController | null} */ #wakers = null;
  #run = 0; // counts connections, so that late answers of an older one are told apart
  #attempt = 0;
  /** @type {Set<number>} */ #strikes = new Set(); // close codes since the last stable connection
  #connectedAt = 0;
  /** @type {number | null} */ #advice = null; // afterMs of a reconnect frame
  #asked = false; // the server asked for the wait: waking up does not cut it short
  #dueAt = 0;
  #heard = 0; // frames heard, and when the last one was
  #heardAt = 0;
  /** @type {(EventFrame | GapFrame | RecalledFrame)[]} */ #queue = [];
  #busy = false;
  #life = 0; // counts erasures: nothing handled before one may store a cursor after it
  /** @type {Set<string>} */ #ids = new Set();
  /** @type {string | null} */ #ackDue = null;
  #ackedAt = -Infinity;
  /** @type {Set<string>} */ #seenDue = new Set();

  /** @param {BridgeOptions} options */
  constructor(options) {
    super();
    this.#o = {
      ackEveryMs: 200, connectTimeoutMs: 15_000, WebSocket: globalThis.WebSocket, now: Date.now, random: Math.random,
      // Called as methods of this object the browser's own would refuse to work.
      setTimeout: (/** @type {() => void} */ fn, /** @type {number} */ ms) => globalThis.setTimeout(fn, ms),
      clearTimeout: (/** @type {any} */ id) => globalThis.clearTimeout(id),
      ...options,
    };
    this.#timers = new Timers(this.#o);
    this.#sends = new Sends(this.#timers);
    const url = new URL(options.url, globalThis.location?.href);
    url.protocol = url.protocol.replace('http', 'ws');
    this.#url = url.href;
    this.#store = options.cursorStore
      ?? (options.user ? storageCursor(`hookbridge:${url}:${options.user}`) : null);
  }

  get state() { return this.#state.state; }
  /** The connected frame of the live session, null without one. */
  get session() { return this.#session; }
  /** The place up to which the app has handled everything; opaque. */
  get cursor() { return this.#cursor; }

  /**
   * Listens, typed; what a message or gap handler returns is waited for. Returns the undoing.
   * @template {keyof BridgeEvents} K
   * @param {K} type @param {(detail: BridgeEvents[K]) => unknown} handler @returns {() => void}
   */
  on(type, handler) {
    const listener = (/** @type {Event} */ e) => {
      const event = /** @type {BridgeEvent<BridgeEvents[K]>} */ (e);
      event.waitUntil(new Promise((resolve) => resolve(handler(event.detail))));
    };
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  /** Starts, or starts again after a stop. Safe to call at any time. */
  connect() {
    if (this.#state.state !== 'stopped') return;
    this.#attempt = 0;
    this.#strikes.clear();
    this.#advice = null;
    this.#cursor ??= this.#store?.load() ?? null;
    this.#listenForWaking();
    this.#open();
  }

  /** Signs out: acks what was handled, closes with 1000, stays stopped until connect(). */
  close() {
    if (this.#state.state === 'stopped') return;
    this.#flushAck();
    const had = this.#socket !== null;
    this.#drop(1000);
    if (had) this.#emit('close', { code: 1000, reason: 'closed by the app', retry: false });
    this.#stop(1000, 'closed by the app');
  }

  /**
   * Sends a message to another user, where this user's token allows it. Sent again with the same ref after a lost
   * connection, so it arrives once. Rejects with the server's problem, with 'timeout' (it may have arrived; the same
   * ref makes trying again safe), 'too_large' or 'stopped'.
   * @param {string | Target} to @param {{type: string, data?: unknown, [member: string]: unknown}} event
   * @param {{ref?: string, timeoutMs?: number}} [options] @returns {Promise<SendResult>}
   */
  send(to, event, { ref = newRef(), timeoutMs = 30_000 } = {}) {
    if (this.#state.state === 'stopped') return Promise.reject(new BridgeError('stopped', 'connect() first'));
    const result = this.#sends.add(ref, { type: 'send', ref, to: typeof to === 'string' ? { user: to } : to, event },
      timeoutMs);
    this.#transmitSend(ref);
    return result;
  }

  /** Says that the person has seen a message; waits for the connection where there is none. @param {string} id */
  seen(id) {
    if (this.#session) this.#transmit({ type: 'seen', id });
    else this.#seenDue.add(id);
  }

  // — connecting —

  async #open() {
    const run = ++this.#run;
    this.#timers.cancel('wait');
    this.#setState({ state: 'connecting' });
    if (run !== this.#run) return; // a state handler has closed or reopened us
    this.#timers.set('deadline', this.#o.connectTimeoutMs, () => this.#lost(1006, 'no connected frame in time'));
    let token, socket;
    try { // the token first: the server waits only 5 s between the upgrade and the connect frame
      token = await this.#o.getToken({ reason: this.#strikes.has(4401) ? 'unauthorized' : 'connect' });
      if (run !== this.#run) return;
      socket = this.#socket = new this.#o.WebSocket(this.#url, [SUBPROTOCOL]);
    } catch (cause) {
      if (run !== this.#run) return;
      this.#drop();
      this.#emit('error', new BridgeError('connect', 'no token, or no WebSocket', { cause }));
      if (run + 1 === this.#run) this.#wait({});
      return;
    }
    socket.onopen = () => this.#transmit({ type: 'connect', token, ...(this.#cursor && { after: this.#cursor }) });
    socket.onmessage = (e) => this.#receive(e.data);
    socket.onclose = (e) => this.#lost(e.code, e.reason);
  }

  /** Forgets the connection without a word to the app. @param {number} [code] */
  #drop(code) {
    this.#run++;
    this.#timers.cancel('deadline', 'watch', 'answer', 'ack');
    const socket = this.#socket;
    this.#socket = this.#session = null;
    this.#queue = []; // unhandled, so it is replayed
    this.#ackDue = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code); // on a half-open socket the close event is minutes away: nobody waits for it
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    const stable = this.#session && this.#o.now() - this.#connectedAt >= STABLE_MS;
    this.#drop();
    const run = this.#run;
    if (stable) {
      this.#attempt = 0;
      this.#strikes.clear();
    }
    const plan = PLANS[code] ?? {};
    const stop = plan.stop || (plan.once && this.#strikes.has(code)) || false;
    this.#strikes.add(code);
    if (plan.erase) {
      this.#life++;
      this.#cursor = null;
      this.#ids.clear();
      this.#seenDue.clear();
      this.#store?.clear();
    }
    this.#emit('close', { code, reason, retry: !stop });
    if (run !== this.#run) return; // the handler has closed us
    if (stop) this.#stop(code, reason);
    else this.#wait(plan);
  }

  /** @param {ClosePlan} plan */
  #wait({ spreadMs, floorMs = 0 }) {
    const advice = this.#advice;
    this.#advice = null;
    const retryInMs = advice !== null ? Math.max(advice, floorMs)
      : Math.round(floorMs + this.#o.random() * (spreadMs ?? backoffMs(this.#attempt++)));
    if (retryInMs === 0) return void this.#open();
    this.#asked = advice !== null || floorMs > 0 || spreadMs !== undefined;
    this.#dueAt = this.#o.now() + retryInMs;
    this.#timers.set('wait', retryInMs, () => this.#open());
    const offline = !this.#asked && globalThis.navigator?.onLine === false; // tried all the same: it may be wrong
    this.#setState({ state: offline ? 'offline' : 'waiting', retryInMs });
  }

  /** @param {number} code @param {string} reason */
  #stop(code, reason) {
    this.#timers.cancel('wait');
    this.#wakers?.abort();
    for (const ref of this.#sends.refs()) this.#sends.fail(ref, new BridgeError('stopped', reason || `closed ${code}`));
    this.#setState({ state: 'stopped', code, reason });
  }

  /** A page that wakes, or a network that returns, need not sit out a wait that was only our own guess. */
  #listenForWaking() {
    this.#wakers = new AbortController();
    const { signal } = this.#wakers;
    const wake = () => {
      if (this.#session) this.#probe(); // it may have died while we slept
      else if (this.#timers.has('wait') && (!this.#asked || this.#o.now() >= this.#dueAt)) this.#open();
    };
    globalThis.addEventListener?.('online', wake, { signal });
    globalThis.addEventListener?.('pageshow', wake, { signal });
    globalThis.addEventListener?.('pagehide', () => this.#flushAck(), { signal });
    globalThis.document?.addEventListener('visibilitychange', () => { if (!document.hidden) wake(); }, { signal });
  }

  // — frames in —

  /** @param {unknown} data */
  #receive(data) {
    this.#heard++;
    this.#heardAt = this.#o.now();
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch (cause) {
      return void this.#emit('error', new BridgeError('not_json', 'the server sent no JSON', { cause }));
    }
    switch (frame?.type) { // unknown types, and pong: to have been heard is all they say
      case 'connected': return this.#connected(frame);
      case 'event':
      case 'gap':
      case 'recalled':
        this.#queue.push(frame);
        return this.#pump();
      case 'result': return this.#sends.done(frame);
      case 'error': return this.#refused(frame.ref, frame.problem ?? {});
      case 'token_expiring': return void this.#refresh();
      case 'refreshed': return void this.#emit('refreshed', frame);
      case 'reconnect':
        if (frame.afterMs >= 0) this.#advice = Math.min(frame.afterMs, ADVICE_MAX_MS);
    }
  }

  /** @param {ConnectedFrame} frame */
  #connected(frame) {
    const run = this.#run;
    this.#timers.cancel('deadline');
    this.#session = frame;
    this.#connectedAt = this.#ackedAt = this.#o.now();
    // A fresh device keeps the place where its reading starts: without one, what another device acks while this one is
    // away would never be replayed here. One that resumed acks again, for its last ack may have died with the socket.
    if (this.#cursor === null) this.#move(frame.cursor);
    else if (frame.resumed) this.#ackSoon(this.#cursor);
    this.#watch(frame.pingMs || DEFAULT_PING_MS);
    for (const ref of this.#sends.refs()) this.#transmitSend(ref);
    for (const id of this.#seenDue) this.#transmit({ type: 'seen', id });
    this.#seenDue.clear();
    this.#setState({ state: 'connected' });
    if (run === this.#run) this.#emit('open', frame);
  }

  /** Hands over mailbox frames one by one, each only when the app is done with the one before. */
  #pump() {
    while (!this.#busy) {
      const frame = this.#queue.shift();
      if (!frame) return;
      const [life, run] = [this.#life, this.#run];
      const repeat = frame.type === 'event' && this.#ids.has(frame.event.id);
      const work = repeat ? [] : this.#emit(frame.type === 'event' ? 'message' : frame.type, frame).work;
      if (work.length === 0) {
        this.#handled(frame, life);
        continue;
      }
      this.#busy = true;
      Promise.all(work).then(() => this.#handled(frame, life), (cause) => {
        this.#emit('error', new BridgeError('handler', 'a handler failed; the message will come again', { cause }));
        if (run === this.#run) this.#lost(1006, 'a handler failed');
      }).finally(() => {
        this.#busy = false;
        this.#pump();
      });
    }
  }

  /** @param {EventFrame | GapFrame | RecalledFrame} frame @param {number} life */
  #handled(frame, life) {
    if (life !== this.#life || frame.type === 'recalled') return;
    if (frame.type === 'event') {
      this.#ids.add(frame.event.id);
      if (this.#ids.size > MAX_IDS) this.#ids.delete(/** @type {string} */ (this.#ids.values().next().value));
    }
    this.#move(frame.cursor);
    this.#ackSoon(frame.cursor);
  }

  /** @param {string | undefined} ref @param {Problem} problem */
  #refused(ref, problem) {
    const error = new BridgeError(problem.code ?? 'refused', problem.detail || problem.title || 'refused', { problem });
    if (ref === undefined || !this.#sends.has(ref)) this.#emit('error', error);
    else if (problem.code !== 'draining') this.#sends.fail(ref, error); // else the next machine gets it, same ref
  }

  async #refresh() {
    const run = this.#run;
    try {
      const token = await this.#o.getToken({ reason: 'expiring' });
      if (run === this.#run) this.#transmit({ type: 'refresh', token });
    } catch (cause) { // then the server closes with 4401 in its time, and that asks for a token again
      this.#emit('error', new BridgeError('token', 'getToken failed', { cause }));
    }
  }

  // — frames out —

  /** @param {object} frame */
  #transmit(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  /** @param {string} ref */
  #transmitSend(ref) {
    const text = this.#session && this.#sends.text(ref, this.#session.maxBytes || Infinity);
    if (text && this.#socket?.readyState === 1) this.#socket.send(text);
  }

  /** @param {string} cursor */
  #move(cursor) {
    this.#cursor = cursor;
    this.#store?.save(cursor);
  }

  /** Acks are cumulative: the first goes at once, the next one speaks for all that gathered. @param {string} cursor */
  #ackSoon(cursor) {
    this.#ackDue = cursor;
    if (this.#timers.has('ack')) return;
    const wait = this.#ackedAt + this.#o.ackEveryMs - this.#o.now();
    if (wait > 0) this.#timers.set('ack', wait, () => this.#flushAck());
    else this.#flushAck();
  }

  #flushAck() {
    this.#timers.cancel('ack');
    if (this.#ackDue === null || !this.#session) return;
    this.#transmit({ type: 'ack', cursor: this.#ackDue });
    this.#ackDue = null;
    this.#ackedAt = this.#o.now();
  }

  // — the watchdog: browsers answer the server's pings without telling the page, so the page asks for itself —

  /** @param {number} pingMs @param {number} [inMs] */
  #watch(pingMs, inMs = pingMs) {
    this.#timers.set('watch', inMs, () => {
      const quiet = this.#o.now() - this.#heardAt;
      if (quiet < pingMs) this.#watch(pingMs, pingMs - quiet);
      else this.#probe();
    });
  }

  #probe() {
    if (this.#timers.has('answer')) return;
    const [heard, at] = [this.#heard, this.#o.now()];
    this.#transmit({ type: 'ping' });
    this.#timers.set('answer', ANSWER_MS, () => {
      if (this.#heard > heard) this.#watch(this.#session?.pingMs || DEFAULT_PING_MS);
      else if (this.#o.now() - at >= 2 * ANSWER_MS) this.#probe(); // this machine slept: the answer may be on its way
      else this.#lost(1006, 'nothing heard');
    });
  }

  /** @template {keyof BridgeEvents} K @param {K} type @param {BridgeEvents[K]} detail */
  #emit(type, detail) {
    const event = new BridgeEvent(type, detail);
    this.dispatchEvent(event);
    return event;
  }

  /** @param {StateDetail} detail */
  #setState(detail) {
    this.#state = detail;
    this.#emit('state', detail);
  }
}
