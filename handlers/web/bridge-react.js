// @ts-check
/**
 * Hookbridge in a React component.
 *
 * @import {Maybe} from './bridge-protocol.js'
 * @import {BridgeOptions, EventFrame, GapFrame, RecalledFrame, StateDetail} from './bridge-client.js'
 *
 * @typedef {object} BridgeHandlers  the newest ones are called; what they return is waited for before the message is acked
 * @property {(frame: EventFrame) => unknown} onMessage
 * @property {Maybe<(frame: GapFrame) => unknown>} [onGap]
 * @property {Maybe<(frame: RecalledFrame) => unknown>} [onRecalled]
 * @property {Maybe<(error: BridgeError) => unknown>} [onError]
 *
 * @typedef {object} BridgeView
 * @property {StateDetail['state']} state
 * @property {StateDetail} detail  of the state: over what it is connected, in how many ms it tries again, why it stopped
 * @property {BridgeClient | null} client  null until the component is mounted
 * @property {BridgeClient['send']} send  of this client; rejects with 'stopped' before the component is mounted
 * @property {BridgeClient['request']} request
 */
import { useCallback, useEffect, useRef, useState } from 'react';
import { BridgeClient, BridgeError } from './bridge-client.js';

/**
 * A connection that lives as long as the component, and is made anew where url or user change. Nothing connects while
 * a server renders. @param {BridgeOptions & BridgeHandlers} options @returns {BridgeView}
 */
export function useBridge(options) {
  const { url, user } = options;
  const newest = useRef(options);
  useEffect(() => { newest.current = options; }); // before the effect below
  const [{ client, detail }, setView] = useState(
    /** @type {{client: BridgeClient | null, detail: StateDetail}} */ ({ client: null, detail: { state: 'stopped' } }));
  useEffect(() => {
    const made = new BridgeClient({ ...newest.current, url, user, getToken: (why) => newest.current.getToken(why) });
    made.on('state', (now) => setView({ client: made, detail: now }));
    made.on('message', (frame) => newest.current.onMessage(frame));
    made.on('gap', (frame) => newest.current.onGap?.(frame));
    made.on('recalled', (frame) => newest.current.onRecalled?.(frame));
    made.on('error', (error) => newest.current.onError?.(error));
    made.connect();
    return () => made.close();
  }, [url, user]);
  const send = useCallback(/** @type {BridgeView['send']} */ ((...what) => client?.send(...what) ?? unmounted()), [client]);
  const request = useCallback(/** @type {BridgeView['request']} */ ((...what) => client?.request(...what) ?? unmounted()), [client]);
  return { state: detail.state, detail, client, send, request };
}

/** @returns {Promise<never>} */
const unmounted = () => Promise.reject(new BridgeError('stopped', 'the component is not mounted yet'));
