// @ts-check
/**
 * @import {ClosePlan, Maybe, TransportName} from './bridge-protocol.js'
 * @import {End, Transport} from './bridge-transports.js'
 *
 * The types that an app may want to name.
 * @typedef {import('./bridge-protocol.js').Answer} Answer
 * @typedef {import('./bridge-protocol.js').Backend} Backend
 * @typedef {import('./bridge-protocol.js').BridgeEvents} BridgeEvents
 * @typedef {import('./bridge-protocol.js').BridgeOptions} BridgeOptions
 * @typedef {import('./bridge-protocol.js').ConnectedFrame} ConnectedFrame
 * @typedef {import('./bridge-protocol.js').CursorStore} CursorStore
 * @typedef {import('./bridge-protocol.js').EventFrame} EventFrame
 * @typedef {import('./bridge-protocol.js').GapFrame} GapFrame
 * @typedef {import('./bridge-protocol.js').NewEvent} NewEvent
 * @typedef {import('./bridge-protocol.js').Problem} Problem
 * @typedef {import('./bridge-protocol.js').RecalledFrame} RecalledFrame
 * @typedef {import('./bridge-protocol.js').RequestOptions} RequestOptions
 * @typedef {import('./bridge-protocol.js').SendResult} SendResult
 * @typedef {import('./bridge-protocol.js').StateDetail} StateDetail
 * @typedef {import('./bridge-protocol.js').Target} Target
 */
import { Acks } from './bridge-acks.js';
import { Choice } from './bridge-choice.js';
import { Place, storageCursor } from './bridge-cursor.js';
import { BridgeEvent, Target as Listening } from './bridge-events.js';
import { httpBase, socketUrl } from './bridge-http.js';
import { Inbox, remember } from './bridge-inbox.js';
import { has, onWaking, withDefaults } from './bridge-platform.js';
import { BridgeError, PLANS, advised, backoffMs, newRef } from './bridge-protocol.js';
import { Sends } from './bridge-sends.js';
import { Timers } from './bridge-timers.js';
import { Tokens } from './bridge-tokens.js';
import { TRANSPORTS } from './bridge-transports.js';
import { Watchdog } from './bridge-watchdog.js';
export { BridgeError, BridgeEvent, storageCursor };

const STABLE_MS = 10_000; // a connection this old has proven its server
const PROVEN_MS = 5_000; // and this old its token, for some live no longer than ten seconds
const MAX_SEEN_ID = 256; // characters; the server's ids have some thirty

/**
 * The browser's side of Hookbridge: one connection that comes back by itself, reads one user's mailbox in order, and
 * never lets a message pass that the app has not handled. It is a WebSocket; where the network blocks these, a stream of
 * server-sent events or long polls bring the same messages. No dependencies; runs in browsers, Node and React Native.
 *
 *   const client = new BridgeClient({ url: 'wss://bridge.example/ws', user: 'patient-42', getToken });
 *   client.on('message', async ({ event, from, replay }) => { await show(event); });
 *   client.connect();
 *
 * A message counts as handled when every `on('message')` handler has returned or resolved; only then does the cursor
 * move, is it stored, and is it acked. A handler that throws or rejects gets the message again on a new connection.
 */
export class BridgeClient extends Listening {
  #o;
  #url;
  #httpUrl;
  #choice;
  /** @type {Transport | null} */ #link = null;
  /** @type {TransportName} of #link */ #via = 'websocket';
  #linkHeld = false; // it opened, or hung
  #renewing = false; // a link takes over for the one before, without a word to the app
  /** @type {StateDetail} */ #state = { state: 'stopped' };
  /** @type {ConnectedFrame | null} */ #session = null;
  #user = ''; // whose the sessions since connect() are; polls do not tell
  #place;
  #timers;
  #tokens;
  #inbox;
  #sends;
  #acks;
  #watchdog;
  #deaf = () => {}; // ends the listening for waking up
  #run = 0; // counts connections, so that late answers of an older one are told apart
  #attempt = 0;
  /** @type {Set<number>} */ #strikes = new Set(); // close codes since the last stable connection
  #connectedAt = 0;
  /** @type {number | null} */ #advice = null; // afterMs of a reconnect frame
  #asked = false; // the server asked for the wait: waking up does not cut it short
  #dueAt = 0;
  /** @type {Set<string>} */ #seenDue = new Set();

  /** @param {BridgeOptions} options */
  constructor(options) {
    super();
    this.#o = withDefaults(options);
    this.#timers = new Timers(this.#o);
    const report = (/** @type {BridgeError} */ error) => void this.#emit('error', error);
    this.#tokens = new Tokens(this.#timers, this.#o, report);
    this.#sends = new Sends(this.#timers);
    this.#acks = new Acks(this.#timers, this.#o);
    this.#watchdog = new Watchdog(this.#timers, this.#o.now, () => this.#transmit({ type: 'ping' }),
      () => this.#lost(1006, 'nothing heard'));
    this.#url = socketUrl(options.url);
    this.#httpUrl = httpBase(this.#url, this.#o.httpUrl);
    const names = this.#o.transports.filter((name) => has(this.#o, name));
    if (names.length === 0) throw new TypeError('transports names none that this platform has');
    this.#choice = new Choice(names, this.#url, this.#o.retryWebSocketMs, this.#o.now);
    const store = options.cursorStore ?? (options.user ? storageCursor(`hookbridge:${this.#url}:${options.user}`) : null);
    this.#place = new Place(store, (cause) => report(new BridgeError('store', 'the cursor store failed', { cause })));
    this.#inbox = new Inbox({
      give: (frame) => this.#emit(frame.type === 'event' ? 'message' : frame.type, frame),
      handled: (cursor) => {
        this.#place.move(cursor);
        this.#acks.soon(cursor);
      },
      failed: (cause, live) => {
        const run = this.#run;
        report(new BridgeError('handler', 'a handler failed; the message will come again', { cause }));
        if (live && run === this.#run) this.#lost(1006, 'a handler failed'); // else an error handler has closed us
      },
    });
  }

  get state() { return this.#state.state; }
  /** What the live session is connected over, null without one. */
  get transport() { return this.#session && this.#via; }
  /** The connected frame of the live session, null without one. */
  get session() { return this.#session; }
  /** The place up to which the app has handled everything; opaque. */
  get cursor() { return this.#place.cursor; }

  /**
   * Listens, typed; what a message or gap handler returns is waited for. Returns the undoing.
   * @template {keyof BridgeEvents} K
   * @param {K} type @param {(detail: BridgeEvents[K]) => unknown} handler @returns {() => void}
   */
  on(type, handler) {
    const listener = (/** @type {BridgeEvent<BridgeEvents[K]>} */ event) => {
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
    this.#user = '';
    this.#deaf = onWaking(() => this.wake(), () => this.#acks.flush(true));
    this.#open();
  }

  /** Signs out: acks what was handled, closes with 1000, stays stopped until connect(). */
  close() {
    if (this.#state.state === 'stopped') return;
    this.#acks.flush(true);
    const had = this.#link !== null;
    this.#drop(1000);
    if (had) this.#emit('close', { code: 1000, reason: 'closed by the app', retry: false });
    this.#stop(1000, 'closed by the app');
  }

  /**
   * Sends a message to another user, or to the backend: `{ backend: true }`, where this user's token allows it. Sent
   * again with the same ref after a lost connection, so it arrives once. Rejects with the server's problem, with
   * 'timeout', or 'stopped' where the client ends first (for both, it may have arrived; the same ref makes trying again
   * safe), 'invalid', 'too_large', 'duplicate_ref', or, to others than the backend over another transport,
   * 'no_websocket'; with 'refused' where the server closed the connection over a frame that was on its way: this one, or
   * another one. The connection itself survives all but 'stopped'.
   * @param {string | Target} to @param {NewEvent} event
   * @param {Maybe<{ref?: string | undefined, timeoutMs?: Maybe<number>}>} [options] @returns {Promise<SendResult>}
   */
  send(to, event, options) {
    const { ref = newRef(), timeoutMs } = options ?? {}; // a ref that is null is a slip: trying again would send twice
    if (this.#state.state === 'stopped') return Promise.reject(new BridgeError('stopped', 'connect() first'));
    const frame = { type: /** @type {const} */ ('send'), ref, to: typeof to === 'string' ? { user: to } : to, event };
    const result = this.#sends.send(frame, timeoutMs);
    this.#transmitSend(ref);
    return result;
  }

  /**
   * Asks the backend, where this user's token allows it, and resolves to its answer. It is asked once, by the session
   * there is now: rejects with 'not_connected' where there is none, and with 'disconnected' where it ends before the
   * answer comes, which the backend may have got all the same; with the server's problem, such as 'backend_timeout', or
   * 'backend_failed' with the status that it answered as `problem.backendStatus`; with 'timeout', 'aborted', 'invalid',
   * 'too_large', 'refused' or 'stopped'.
   * @param {NewEvent} event @param {Maybe<RequestOptions>} [options] @returns {Promise<Answer>}
   */
  request(event, options) {
    if (this.#state.state === 'stopped') return Promise.reject(new BridgeError('stopped', 'connect() first'));
    if (!this.#session) return Promise.reject(new BridgeError('not_connected', 'there is no session: wait for open'));
    const ref = newRef();
    const answer = this.#sends.request(ref, event, options ?? {});
    this.#transmitSend(ref);
    return answer;
  }

  /** Says that the person has seen a message; waits for a WebSocket where there is none. @param {string} id */
  seen(id) {
    if (typeof id !== 'string' || id === '' || id.length > MAX_SEEN_ID) {
      this.#emit('error', new BridgeError('invalid', 'seen() takes the id of an event'));
    } else if (this.#session && this.#link?.twoWay) this.#transmit({ type: 'seen', id });
    else remember(this.#seenDue, id);
  }

  /**
   * The app is in front again, or its network has changed: a wait that was only our own guess ends, and a connection
   * that may have died is asked. Browsers tell us themselves; call it from React Native's AppState.
   */
  wake() {
    if (this.#session) this.#watchdog.probe();
    else if (this.#timers.has('wait') && (!this.#asked || this.#o.now() >= this.#dueAt)) this.#open();
  }

  // — connecting —

  async #open() {
    const run = ++this.#run;
    this.#timers.cancel('wait');
    this.#setState({ state: 'connecting' });
    if (run !== this.#run) return; // a state handler has closed or reopened us
    this.#limitWait();
    try { // the token first: the server waits only 5 s between the upgrade and the connect frame
      const loading = this.#place.load();
      if (loading) await loading;
      if (run !== this.#run) return;
      const token = await this.#tokens.get(this.#strikes.has(4401) ? 'unauthorized' : 'connect');
      if (run === this.#run) this.#join(this.#choice.next(), token);
    } catch (cause) {
      if (run !== this.#run) return;
      if (this.#link) this.#choice.failed(1006, false);
      this.#drop();
      this.#emit('error', new BridgeError('connect', 'no token, or no WebSocket', { cause }));
      if (run + 1 === this.#run) this.#wait({});
    }
  }

  #limitWait() {
    this.#timers.set('deadline', this.#o.connectTimeoutMs, () => {
      this.#linkHeld = true; // a proxy may keep even the first word of an answer
      this.#lost(1006, 'no connected frame in time');
    });
  }

  /** @param {TransportName} via @param {string} token */
  #join(via, token) {
    this.#via = via;
    this.#linkHeld = false;
    this.#link = new TRANSPORTS[via]({
      o: this.#o, url: this.#url, httpUrl: this.#httpUrl, token, after: this.#place.cursor,
      opened: () => {
        this.#linkHeld = true;
        this.#choice.opened();
      },
      heard: () => this.#watchdog.heard(),
      frame: (frame) => this.#receive(frame),
      end: (code, reason, more) => this.#lost(code, reason, more),
    });
    this.#link.open();
  }

  /** A new token for a transport that has no frame to say so: the next stream brings it. @param {string} token */
  #renew(token) {
    const session = this.#session;
    this.#drop(undefined, true); // first: a user at the limit of sessions would lose another one to the new stream
    this.#session = session;
    this.#renewing = true;
    this.#limitWait();
    this.#join(this.#via, token);
  }

  /** Forgets the connection without a word to the app. @param {number} [code] @param {boolean} renewed  the session goes on */
  #drop(code, renewed = false) {
    this.#run++;
    this.#timers.cancel('deadline');
    this.#watchdog.stop();
    this.#acks.stop();
    this.#tokens.stop();
    this.#sends.lost(renewed);
    this.#inbox.drop(); // what is unhandled is replayed
    const link = this.#link;
    this.#link = this.#session = null;
    this.#renewing = false;
    link?.close(code);
  }

  /** @type {End} */
  #lost(code, reason, { adviceMs, floorMs = 0 } = {}) {
    if (this.#link && !this.#session) this.#choice.failed(code, this.#linkHeld);
    const lived = this.#session ? Math.abs(this.#o.now() - this.#connectedAt) : 0; // clocks are set back, too
    let plan = PLANS[code] ?? {};
    const theApps = plan.frame && this.#sends.unreadable(reason);
    this.#drop();
    const run = this.#run;
    if (lived >= PROVEN_MS) this.#strikes.delete(4401);
    if (lived >= STABLE_MS) {
      this.#attempt = 0;
      this.#strikes.clear();
    }
    const again = this.#strikes.has(code);
    const stop = !theApps && (plan.stop || (plan.once && again)) || false;
    if (again && plan.spreadMs === 0) plan = {}; // at once, time after time, would be a storm
    if (!theApps) this.#strikes.add(code);
    if (plan.erase) {
      this.#inbox.erase();
      this.#seenDue.clear();
      this.#place.clear();
    }
    this.#emit('close', { code, reason, retry: !stop });
    if (run !== this.#run) return; // the handler has closed us
    if (stop) this.#stop(code, reason);
    else {
      this.#advice = advised(adviceMs) ?? this.#advice;
      this.#wait({ ...plan, floorMs: Math.max(plan.floorMs ?? 0, advised(floorMs) ?? 0) });
    }
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
    this.#deaf();
    for (const ref of this.#sends.refs()) this.#sends.fail(ref, new BridgeError('stopped', reason || `closed ${code}`));
    this.#setState({ state: 'stopped', code, reason });
  }

  // — frames in —

  /** @param {any} frame or its text */
  #receive(frame) {
    try {
      if (typeof frame === 'string') frame = JSON.parse(frame);
    } catch (cause) {
      return void this.#emit('error', new BridgeError('not_json', 'the server sent no JSON', { cause }));
    }
    switch (frame?.type) { // unknown types, and pong: to have been heard is all they say
      case 'connected': return this.#connected(frame);
      case 'event':
      case 'gap':
      case 'recalled':
        return this.#inbox.push(frame);
      case 'result': return this.#sends.done(frame, frame);
      case 'response': return this.#sends.done(frame, { status: frame.status, data: frame.data });
      case 'error': return this.#refused(frame.ref, frame.problem ?? {});
      case 'token_expiring': return this.#tokens.expiring(Number(frame.inMs) || 0, (token) => this.#refresh(token));
      case 'refreshed': return void this.#emit('refreshed', frame);
      case 'reconnect': return void (this.#advice = advised(frame.afterMs) ?? this.#advice);
    }
  }

  /** @param {ConnectedFrame} frame */
  #connected(frame) {
    const link = this.#link;
    if (!link) return;
    // As the server has it for a refresh: what is on its way is one user's, and so is what the app shows.
    if (this.#user && frame.user && frame.user !== this.#user) return this.#lost(4403, 'the token is of another user');
    this.#user ||= frame.user;
    const [run, transport, renewed] = [this.#run, this.#via, this.#renewing];
    this.#timers.cancel('deadline');
    this.#session = frame;
    this.#renewing = false;
    this.#connectedAt = this.#o.now();
    this.#choice.worked();
    this.#acks.start(link);
    // A fresh device keeps the place where its reading starts: without one, what another device acks while this one is
    // away would never be replayed here. One that resumed acks again, for its last ack may have died with the socket.
    if (this.#place.cursor === null) {
      if (frame.cursor) this.#place.move(frame.cursor);
      if (run !== this.#run) return; // the store failed, and an error handler has closed us
    } else if (frame.resumed) this.#acks.soon(this.#place.cursor);
    this.#watchdog.start(frame.pingMs, link.twoWay);
    for (const ref of this.#sends.refs()) this.#transmitSend(ref);
    if (link.twoWay) {
      for (const id of this.#seenDue) this.#transmit({ type: 'seen', id });
      this.#seenDue.clear();
    }
    if (renewed) return void this.#emit('refreshed', { expiresAt: frame.expiresAt });
    this.#setState({ state: 'connected', transport });
    if (run === this.#run) this.#emit('open', { ...frame, transport });
  }

  /** @param {string | undefined} ref @param {Problem} problem */
  #refused(ref, problem) {
    const error = new BridgeError(problem.code ?? 'refused', problem.detail || problem.title || 'refused', { problem });
    if (ref === undefined || !this.#sends.has(ref)) this.#emit('error', error);
    else if (problem.code !== 'draining' || this.#sends.isRequest(ref)) this.#sends.fail(ref, error);
    // else the next machine gets it, same ref
  }

  /** @param {string} token */
  #refresh(token) {
    if (this.#link?.twoWay) this.#transmit({ type: 'refresh', token });
    else this.#renew(token);
  }

  // — frames out —

  #transmit(/** @type {{type: string, [member: string]: unknown}} */ frame) { this.#link?.transmit(frame); }

  /** @param {string} ref */
  #transmitSend(ref) {
    if (!this.#session || !this.#link || this.#renewing) return; // until it is known whose the new token is
    if (!this.#link.twoWay && !this.#sends.forBackend(ref)) {
      return this.#sends.fail(ref, new BridgeError('no_websocket', 'the network blocks what sends to users need'));
    }
    const open = this.#sends.write(ref, this.#session.maxBytes || Infinity);
    if (!open) return;
    this.#link.transmit(open.frame, open.text, open.over.signal)?.then((arrived) => {
      if (!arrived) this.#sends.fail(ref, new BridgeError('disconnected', 'the bridge has not answered'));
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
