// @ts-check
/** Null and undefined are as good as absent. @template T @typedef {T | null | undefined} Maybe */
/**
 * What Hookbridge's client speaks and believes: the frames, the options, and the plan for each close code.
 *
 * @typedef {{id: string, type: string, timestamp: string, data?: any}} EventObject
 * @typedef {{type: 'event', cursor: string, replay?: boolean, from?: string, event: EventObject}} EventFrame
 * @typedef {{type: 'gap', after?: string, cursor: string, reason: string}} GapFrame
 * @typedef {{type: 'recalled', id: string}} RecalledFrame
 * @typedef {{type: 'connected', session: string, user: string, cursor: string, resumed: boolean, pending: number,
 *   pingMs: number, expiresAt: string, maxBytes: number}} ConnectedFrame
 * @typedef {{ref?: string, id: string, status: string, sessions: number, duplicate?: boolean}} SendResult
 * @typedef {{status: number, data: any}} Answer  the backend's own status (200 over HTTP), and the JSON that it replied
 * @typedef {{type?: string, title?: string, status?: number, code?: string, detail?: string, backendStatus?: number}} Problem
 *   `backendStatus`: what the backend answered to a request, if it did
 * @typedef {'connecting' | 'connected' | 'waiting' | 'offline' | 'stopped'} State
 * @typedef {'websocket' | 'sse' | 'poll'} TransportName
 * @typedef {{state: State, transport?: TransportName, retryInMs?: number, code?: number, reason?: string}} StateDetail
 *   `transport`: over which it is connected
 * @typedef {{backend: true | string}} Backend  the one that takes the event's type from this user, or the one of a name
 * @typedef {{user: string} | {users: string[]} | {group: string} | {all: true} | Backend} Target
 * @typedef {{type: string, data?: unknown, [member: string]: unknown}} NewEvent
 * @typedef {object} RequestOptions
 * @property {Maybe<Backend>} [to]  default: the first backend that takes the event's type from this user
 * @property {Maybe<number>} [timeoutMs]  how long the backend may take, 1 to 30,000; default 5,000
 * @property {Maybe<AbortSignal>} [signal]  ends the waiting for the answer
 * @typedef {object} CursorStore  where the cursor outlives the page; each may return a promise
 * @property {() => string | null | PromiseLike<string | null>} load
 * @property {(cursor: string) => void | PromiseLike<void>} save
 * @property {() => void | PromiseLike<void>} clear
 * @typedef {object} StorageLike  what is used of localStorage, or of something like it that gives promises
 * @property {(key: string) => string | null | PromiseLike<string | null>} getItem
 * @property {(key: string, value: string) => unknown} setItem
 * @property {(key: string) => unknown} removeItem
 * @typedef {object} SocketLike  what is used of a WebSocket
 * @property {number} readyState
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(data: string) => void} send
 * @property {(code?: number) => void} close
 *
 * What each event's handler is given.
 * @typedef {object} BridgeEvents
 * @property {ConnectedFrame & {transport: TransportName}} open  the session is registered; what waited follows. Polls
 *   have no session: there `session`, `user` and `expiresAt` are empty and `maxBytes` is 0
 * @property {EventFrame} message  one message, never the same `event.id` twice
 * @property {StateDetail} state
 * @property {GapFrame} gap  messages were lost for good: fetch what matters from the backend
 * @property {RecalledFrame} recalled  take the message off the screen
 * @property {{expiresAt: string}} refreshed
 * @property {{code: number, reason: string, retry: boolean}} close
 * @property {BridgeError} error
 *
 * @typedef {object} BridgeOptions
 * @property {string} url  of the bridge's /ws, absolute or relative to the page, without any token
 * @property {(why: {reason: 'connect' | 'unauthorized' | 'expiring'}) => string | Promise<string>} getToken  fetches a
 *   token of the same user each time; for 'unauthorized' and 'expiring' it must be a new one, not one from a cache. One of
 *   another user closes with 4403: sign out with close() first
 * @property {Maybe<string>} [user]  names the default cursor store; without it the cursor lives as long as this object
 * @property {Maybe<CursorStore>} [cursorStore]  default: localStorage where there is one, an entry per url and user
 * @property {Maybe<TransportName[]>} [transports]  those it may use, the best first; default: websocket, sse, poll. The next one
 *   is for networks that block the one before, not for servers that are down
 * @property {Maybe<string>} [httpUrl]  under which the bridge's /v1/… is; default: where /ws is
 * @property {Maybe<number>} [retryWebSocketMs]  a fallback this old is left for the first transport at the next reconnect;
 *   default 600,000
 * @property {Maybe<number>} [ackEveryMs]  at most one ack in this time; default 200
 * @property {Maybe<number>} [connectTimeoutMs]  from wanting a token to the connected frame; default 15,000
 * @property {Maybe<new (url: string, protocols?: string[]) => SocketLike>} [WebSocket]  default: the platform's own. Node has one
 *   from version 22 on; before, give the class of the package ws
 * @property {Maybe<(url: string, init?: any) => Promise<any>>} [fetch]  default: the platform's own
 * @property {Maybe<() => number>} [now]
 * @property {Maybe<() => number>} [random]
 * @property {Maybe<(fn: () => void, ms: number) => any>} [setTimeout]
 * @property {Maybe<(id: any) => void>} [clearTimeout]
 *
 * @typedef {{[K in keyof BridgeOptions]: NonNullable<BridgeOptions[K]>}} Given  the options that are there
 * @typedef {Required<Pick<Given, 'WebSocket' | 'fetch' | 'now' | 'random' | 'setTimeout' | 'clearTimeout'>>} Plumbing
 */

export const SUBPROTOCOL = 'bridge.v1.json';

const BACKOFF_BASE_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;

/**
 * What a close code asks for. Without an entry: full jitter over 1 s·2ⁿ ≤ 30 s. `once`: a second time in a row stops.
 * `spreadMs`: full jitter over this instead. `floorMs`: at least this before the jitter. `frame`: the server could not
 * read a frame of ours; where the app has sends under way, these fail and the connection comes back.
 * @typedef {{stop?: true, once?: true, spreadMs?: number, floorMs?: number, erase?: true, frame?: true}} ClosePlan
 * @type {Record<number, ClosePlan>}
 */
export const PLANS = {
  1000: { stop: true }, // signed out
  1001: { spreadMs: 5_000 }, // the machine stops: spread, unless a reconnect frame said when
  1002: { stop: true }, // 1002, 1003, 1007, 1009 and 4400 mean that a frame of ours was wrong: a bug
  1003: { stop: true, frame: true },
  1007: { stop: true, frame: true },
  1009: { stop: true, frame: true },
  1012: { spreadMs: 5_000 },
  1013: { floorMs: 5_000 },
  4400: { once: true, frame: true },
  4401: { once: true, floorMs: 1_000, spreadMs: 1_000 }, // a new token, once; a clock that is a little off has caught up
  4403: { stop: true },
  4408: { once: true },
  4409: { stop: true },
  4410: { stop: true, erase: true },
  4429: { floorMs: 30_000 },
  4498: { spreadMs: 0 }, // we were too slow; the cursor brings back what did not fit
};

/** A refusal by the server (`problem` is set), or a failure on this side (`code` says which). */
export class BridgeError extends Error {
  /** @param {string} code @param {string} message @param {{problem?: Problem, cause?: unknown}} [more] */
  constructor(code, message, { problem, cause } = {}) {
    super(message, { cause });
    this.name = 'BridgeError';
    this.code = code;
    this.problem = problem;
  }
}

const ADVICE_MAX_MS = 600_000; // a longer wait is a mistake, and setTimeout overflows on huge ones

/** The wait that the server advises, in milliseconds; null where it advises none. @param {unknown} ms */
export const advised = (ms) => (typeof ms === 'number' && ms >= 0 ? Math.min(ms, ADVICE_MAX_MS) : null);

/** The widest wait after so many failed attempts: 1 s·2ⁿ, at most 30 s. @param {number} attempt */
export const backoffMs = (attempt) => Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt);

/**
 * A ref for a send frame: another one each time for this user, not a secret. Pages that came over plain http from
 * another machine have no crypto.randomUUID, React Native has no crypto at all.
 */
export function newRef() {
  return globalThis.crypto?.randomUUID?.() ?? [Date.now(), Math.random(), Math.random()].map((n) => n.toString(36)).join('-');
}
