// @ts-check
/** @import {BridgeOptions, TransportName} from './bridge-protocol.js' */

/** What the client takes from the platform, where the app gives no other. @param {BridgeOptions} options */
export function withDefaults(options) {
  return {
    ackEveryMs: 200, connectTimeoutMs: 15_000, retryWebSocketMs: 600_000,
    transports: /** @type {TransportName[]} */ (['websocket', 'sse', 'poll']), now: Date.now, random: Math.random,
    WebSocket: /** @type {NonNullable<BridgeOptions['WebSocket']>} */ (globalThis.WebSocket),
    // Called as methods of this object the browser's own would refuse to work.
    fetch: (/** @type {string} */ url, /** @type {any} */ init) => globalThis.fetch(url, init),
    setTimeout: (/** @type {() => void} */ fn, /** @type {number} */ ms) => globalThis.setTimeout(fn, ms),
    clearTimeout: (/** @type {any} */ id) => globalThis.clearTimeout(id),
    ...options,
  };
}

/** @param {ReturnType<typeof withDefaults>} o @param {TransportName} name */
export function has(o, name) {
  if (name === 'websocket') return Boolean(o.WebSocket);
  return name === 'poll' || (name === 'sse' && typeof globalThis.TextDecoder === 'function');
}

/**
 * Tells when a page wakes up, or the network returns, and when the page is left. Elsewhere there is nothing to hear.
 * @param {() => void} wake @param {() => void} leave @returns {() => void} the undoing
 */
export function onWaking(wake, leave) {
  const stop = new AbortController();
  const { signal } = stop;
  globalThis.addEventListener?.('online', wake, { signal });
  globalThis.addEventListener?.('pageshow', wake, { signal });
  globalThis.addEventListener?.('pagehide', leave, { signal });
  globalThis.document?.addEventListener('visibilitychange', () => { if (!document.hidden) wake(); }, { signal });
  return () => stop.abort();
}
