// @ts-check
/** @import {Problem} from './bridge-protocol.js' */
/** @import {End, Wires} from './bridge-transports.js' */

/** Asks the bridge as this user. @param {Wires} wires @param {string} url @param {RequestInit} init */
export function ask({ o, token }, url, { headers, ...init }) {
  return o.fetch(url, {
    cache: 'no-store', credentials: 'omit', ...init, headers: { Authorization: `Bearer ${token}`, ...headers },
  });
}

/** @param {Wires} wires @param {string} path @param {Record<string, string>} [query] */
export function atV1({ httpUrl }, path, query = {}) {
  const pairs = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `${httpUrl}v1/${path}${pairs.length > 0 ? '?' : ''}${pairs.join('&')}`;
}

/**
 * A URL with its scheme and host, without a fragment. React Native's own URL cannot be trusted with more than that.
 * @param {string} url  absolute, or relative to the page where there is one
 */
function absolute(url) {
  const page = globalThis.location?.href;
  if (page) return new URL(url, page).href.replace(/#.*/s, '');
  const parts = /^([a-z][a-z0-9+.-]*:)\/\/([^/?#]+)([^?#]*)(\?[^#]*)?/i.exec(url);
  if (!parts) throw new TypeError('url must be absolute where there is no page, like wss://bridge.example/ws');
  return `${parts[1].toLowerCase()}//${parts[2].toLowerCase()}${parts[3] || '/'}${parts[4] ?? ''}`;
}

/** @param {string} url  of the bridge's /ws, by http or ws */
export function socketUrl(url) {
  const socket = absolute(url).replace(/^http/, 'ws');
  if (!/^wss?:/.test(socket)) throw new TypeError('url must begin with ws:, wss:, http: or https:');
  return socket;
}

/**
 * Where the HTTP side lives: what is told, or else beside the WebSocket's own path.
 * @param {string} socketUrl @param {string} [told]
 */
export function httpBase(socketUrl, told) {
  const url = (told === undefined ? socketUrl.replace(/^ws/, 'http') : absolute(told)).replace(/\?.*/s, '');
  if (told === undefined) return url.slice(0, url.lastIndexOf('/') + 1);
  return url.endsWith('/') ? url : `${url}/`;
}

/**
 * What an answer says that is not the wanted one, in the words of close codes; undefined for the wanted one. Only a
 * problem of the bridge's own can stop a client: a page of a proxy with the same status is no more than a bad line.
 * @param {Response} response @param {string} wanted media type @returns {Promise<Parameters<End> | undefined>}
 */
export async function endOf(response, wanted) {
  const type = response.headers.get('Content-Type') ?? '';
  if (response.status === 200 && type.startsWith(wanted)) return undefined;
  const own = type.startsWith('application/problem+json');
  const problem = /** @type {Problem} */ (own ? await response.json().catch(() => ({})) : {});
  if (!own) response.body?.cancel().catch(() => {}); // nobody reads it: the connection is free for others
  const code = closeCode(response.status, own, problem.code);
  const reason = [problem.code ?? `HTTP ${response.status}`, problem.detail].filter(Boolean).join(': ');
  const seconds = Number(response.headers.get('Retry-After')); // a date, which the bridge never sends, is NaN
  if (!(seconds > 0)) return [code, reason];
  return [code, reason, code === 1012 ? { adviceMs: seconds * 1000 } : { floorMs: seconds * 1000 }];
}

/** @param {number} status @param {boolean} own @param {string} [code] */
function closeCode(status, own, code) {
  if (status === 429) return 4429;
  if (status === 503) return code === 'draining' ? 1012 : 1013;
  if (!own) return 1006;
  if (status === 401) return 4401;
  if (status === 403) return 4403;
  // A bridge of an older release lacks the path, one in front of which a proxy dawdled gives 408: no fault of a frame.
  if (status < 400 || status >= 500 || [404, 405, 408].includes(status)) return 1006;
  return 4400;
}

/** Waits, until one of the signals ends it. @param {Wires['o']} o @param {number} ms @param {...AbortSignal} signals */
export function pause(o, ms, ...signals) {
  return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
    if (signals.some(({ aborted }) => aborted)) return void resolve();
    const done = () => {
      o.clearTimeout(id);
      for (const signal of signals) signal.removeEventListener('abort', done); // they may outlive many a pause
      resolve();
    };
    const id = o.setTimeout(done, ms);
    for (const signal of signals) signal.addEventListener('abort', done);
  });
}
