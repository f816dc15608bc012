// @ts-check
/** The demo page's words. `say` marks what it writes, so that a change of language reaches all of it. */

/** @type {Record<string, [en: string, zh: string]>} */
const WORDS = {
  title: ['Hookbridge', 'Hookbridge 消息桥'],
  skip: ['Skip to the demo', '跳到演示'],
  tagline: ['From a signed webhook to the phone that rings.', '从一次签名的 Webhook，到患者手机的一声铃。'],
  language: ['Language', '语言'],
  route: ['The way of a message', '消息的路线'],
  stopClinic: ['Clinic', '医院'],
  stopBridge: ['Bridge', '消息桥'],
  bridgeHolds: ['Bridge holds {n}', '暂存 {n} 条'],
  stopPhone: ['Patient', '患者'],
  wireWebhook: ['signed webhook', '签名 Webhook'],
  wireCallback: ['signed callback', '签名回调'],
  wireSocket: ['WebSocket', 'WebSocket'],
  doctor: ['Doctor', '医生端'],
  patient: ['Patient', '患者端'],
  way1: ['Way 1', '方法一'],
  way2: ['Way 2', '方法二'],
  way1Add: ['The clinic’s backend calls the bridge', '医生端后端调用消息桥'],
  way2Write: ['This page sends over the doctor’s own socket', '医生端页面经自己的连接发送'],
  way1All: ['The backend speaks to everyone', '后端向所有人广播'],
  patientName: ['Patient’s name', '患者姓名'],
  addPatient: ['Add patient', '添加患者'],
  messageTo: ['Message to the patient', '给患者的消息'],
  messageHint: ['Your results are in.', '您的检查结果出来了。'],
  send: ['Send', '发送'],
  announcement: ['Announcement', '公告'],
  newsHint: ['The clinic closes at five today.', '门诊今天下午五点结束。'],
  toAll: ['To all', '发给所有人'],
  sentTitle: ['What was sent, and what came of it', '发了什么，结果如何'],
  logEmpty: ['Nothing yet. Add the patient above and watch the other side.', '还没有记录。在上面添加患者，看看患者端。'],
  did_add: ['Added {who}', '添加了患者 {who}'],
  did_write: ['“{text}”', '“{text}”'],
  did_announce: ['To all: “{text}”', '发给所有人：“{text}”'],
  sending: ['on its way', '发送中'],
  status_sent: ['sent', '已送出'],
  status_received: ['received', '已收到'],
  status_acked: ['acknowledged', '已确认'],
  status_phone: ['phone now', '该打电话了'],
  status_queued: ['queued', '已暂存'],
  status_dropped: ['dropped', '已丢弃'],
  status_refused: ['refused', '被拒绝'],
  status_failed: ['failed', '失败'],
  why_sent: ['Handed to {n}, not yet read.', '已交给 {n}，尚未阅读。'],
  why_received: ['Arrived on {n}.', '已到达 {n}。'],
  why_acked: ['The patient’s app has it.', '患者的应用已确认收到。'],
  why_phone: ['Nobody has acknowledged it in {n} s: the clinic would phone {who} now.', '{n} 秒内无人确认：医院现在会给 {who} 打电话。'],
  why_queued: ['Nobody is online. It is stored and waits.', '对方不在线，已存好，等候送达。'],
  why_dropped: ['Nobody is online, and it was not to be kept.', '对方不在线，且未要求保存。'],
  why_unreachable: ['The clinic’s backend cannot be reached.', '无法连接医院后端。'],
  unsent_timeout: ['No answer has come. Try again.', '没有收到答复，请再试。'],
  unsent_stopped: ['This page is not connected any more. Load it again.', '本页已断开，请重新加载。'],
  unsent_no_websocket: ['The network lets no WebSocket through, which this needs.', '网络不支持 WebSocket，无法发送。'],
  session_one: ['1 live session', '1 个在线会话'],
  session_many: ['{n} live sessions', '{n} 个在线会话'],
  whatHappened: ['What happened', '经过'],
  step_request: ['The backend signed this and sent it', '后端签名并发出'],
  step_frame: ['The page sent this frame', '页面发出这一帧'],
  step_reply: ['The bridge answered {status}', '消息桥回答 {status}'],
  step_result: ['The bridge answered on the socket', '消息桥在连接上回答'],
  heardTitle: ['What the clinic’s backend heard', '医院后端听到了什么'],
  heardEmpty: ['Nothing yet. Let the patient confirm, or go offline.', '还没有。请患者点“确认”，或把手机放进口袋。'],
  'heard_message.sent': ['{who} sent {event}', '{who} 发来 {event}'],
  'heard_visit.confirmed': ['{who} has confirmed', '{who} 已确认就诊'],
  'heard_visit.chosen': ['{who} has chosen a slot: {slot}', '{who} 选好了时段：{slot}'],
  'heard_slots.list': ['{who} asked for free slots', '{who} 询问空闲时段'],
  heard_request: ['{who} asked: {event}', '{who} 询问：{event}'],
  'heard_event.acked': ['{who}’s app has {event}', '{who} 的应用已收到 {event}'],
  'heard_event.unacked': ['Nobody acknowledged {event} in {n} s. The clinic would phone {who} now.',
    '{event} 在 {n} 秒内无人确认，医院现在会给 {who} 打电话。'],
  'heard_event.expired': ['{event} ended without reaching {who}', '{event} 到期，{who} 未收到'],
  'heard_user.online': ['{who} is online', '{who} 上线了'],
  'heard_user.offline': ['{who} is offline', '{who} 离线了'],
  heard_other: ['{type}', '{type}'],
  whatCame: ['What came', '收到的内容'],
  step_callback: ['The bridge signed this and sent it', '消息桥签名并发出'],
  step_request_heard: ['The bridge signed this, and waited for the answer', '消息桥签名并发出，等候答复'],
  confirm: ['Confirm', '确认'],
  telling: ['on its way', '发送中'],
  'told_visit.confirmed': ['Confirmed. The clinic will hear of it.', '已确认，医院会收到。'],
  'told_visit.chosen': ['Chosen. The clinic will hear of it.', '已选定，医院会收到。'],
  askSlots: ['Ask for free slots', '询问空闲时段'],
  asking: ['asking the clinic', '正在询问医院'],
  slotsCame: ['Which one suits you?', '哪个时段合适？'],
  slotsNone: ['There is none.', '没有空闲时段。'],
  slot: ['{slot}', '{slot}'],
  clock: ['{at}', '{at}'],
  excuse: ['That did not work: {why}', '未成功：{why}'],
  excuse_timeout: ['No answer has come. Try again.', '没有收到答复，请再试。'],
  excuse_unavailable: ['The bridge cannot take it now. Try again in a while.', '消息桥现在无法接收，请稍后再试。'],
  excuse_rate_limited: ['That was too fast. Try again in a while.', '操作太快，请稍后再试。'],
  excuse_stopped: ['The phone is in the pocket.', '手机还在口袋里。'],
  excuse_not_connected: ['There is no connection now. Try again.', '现在没有连接，请再试。'],
  excuse_disconnected: ['The connection was lost. Ask again.', '连接中断，请再问一次。'],
  excuse_backend_timeout: ['The clinic did not answer in time.', '医院没有及时答复。'],
  excuse_backend_failed: ['The clinic could not answer.', '医院无法答复。'],
  pocket: ['Phone in the pocket', '手机放进口袋（离线）'],
  chime: ['Chime', '提示音'],
  messages: ['Messages', '消息'],
  inboxEmpty: ['No messages yet', '暂无消息'],
  inboxHint: ['Put the phone in the pocket, send something, take it out again: nothing is lost.',
    '先把手机放进口袋，发一条消息，再拿出来：一条也不会丢。'],
  secondDevice: ['Open this patient on a second device', '在另一台设备上打开这位患者'],
  foot: ['At least once, in order, kept for those who are away. Not an emergency alarm.',
    '至少送达一次，按序，离线也为您保存。本系统不是紧急报警系统。'],
  bell_none: ['No new messages', '没有新消息'],
  bell_some: ['Mark {n} new as seen', '将 {n} 条新消息标为已读'],
  said_new: ['New message: {what}', '新消息：{what}'],
  said_state: ['{who}: {state}', '{who}：{state}'],
  about_added: ['You were added', '您已被添加'],
  added: ['{name}, {doctor} has added you as a patient.', '{name}，{doctor} 已将您添加为患者。'],
  payload: ['{text}', '{text}'],
  about_message: ['From {from}', '来自 {from}'],
  about_clinic: ['From the clinic', '来自医院'],
  about_all: ['To everyone', '致所有人'],
  waited: ['waited for you', '离线期间送来'],
  recalled: ['Taken back by the sender', '发送方已撤回'],
  gap: ['Older messages are gone ({reason}). Ask the clinic for what matters.', '更早的消息已不可得（{reason}），请向医院查询。'],
  state_connecting: ['connecting', '连接中'],
  state_connected: ['connected', '已连接'],
  state_waiting: ['again in {n} s', '{n} 秒后重连'],
  state_offline: ['offline, again in {n} s', '网络断开，{n} 秒后再试'],
  state_stopped: ['stopped', '已停止'],
  state_pocket: ['in the pocket', '在口袋里'],
  fact_session: ['Session', '会话'],
  fact_cursor: ['Cursor', '游标'],
  fact_close: ['Last close', '上次断开'],
  fact_none: ['none', '无'],
  fact_closed: ['{code} {meaning}', '{code} {meaning}'],
  close_1000: ['signed out', '已退出'],
  close_1001: ['the machine stopped', '服务器停机'],
  close_1006: ['connection lost', '连接中断'],
  close_1009: ['frame too large', '消息过大'],
  close_1011: ['server error', '服务器错误'],
  close_1012: ['the machine restarted', '服务器重启'],
  close_1013: ['overloaded', '服务器繁忙'],
  close_4400: ['wrong frame', '消息格式错误'],
  close_4401: ['token invalid or expired', '令牌无效或过期'],
  close_4403: ['forbidden or revoked', '无权限或已吊销'],
  close_4408: ['too slow to sign in', '登录超时'],
  close_4409: ['replaced by another device', '被其他设备取代'],
  close_4410: ['user erased', '用户已删除'],
  close_4429: ['too many frames', '发送过于频繁'],
  close_4498: ['too slow, caught up again', '接收过慢，将补齐'],
  close_other: ['closed', '已关闭'],
};

const LANGUAGES = /** @type {const} */ (['en', 'zh']);
let column = 0;

const DATES = LANGUAGES.map((language) => new Intl.DateTimeFormat(language,
  { weekday: 'short', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' }));
const CLOCKS = LANGUAGES.map((language) => new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit' }));

/**
 * Words of a key, `{name}` filled from args. An arg `{key, args}` is words too, and a Date, or `{clock: Date}` for the
 * time of day, is written as the language does; a string never is: it may be a payload.
 */
export function t(/** @type {string} */ key, /** @type {Record<string, any>} */ args = {}) {
  /** @type {(match: string, name: string) => string} */
  const fill = (_, name) => {
    const arg = args[name];
    if (arg instanceof Date) return DATES[column].format(arg);
    if (arg?.clock instanceof Date) return CLOCKS[column].format(arg.clock);
    return arg?.key ? t(arg.key, arg.args) : String(arg ?? '');
  };
  return WORDS[key][column].replace(/\{(\w+)\}/g, fill);
}

/** Whether there are words for a key. */
export const known = (/** @type {string} */ key) => Object.hasOwn(WORDS, key);

/** @type {WeakMap<Element, Record<string, any>>} */
const argsOf = new WeakMap();

/** Writes words into an element, as text, now and after each change of language. */
export function say(
  /** @type {HTMLElement} */ el, /** @type {string} */ key, /** @type {Record<string, any>} */ args = {},
) {
  el.dataset.t = key;
  argsOf.set(el, args);
  const words = t(key, args);
  if (el.textContent !== words) el.textContent = words;
}

/** Writes what is the same in every language. */
export function plain(/** @type {HTMLElement} */ el, /** @type {string} */ text) {
  delete el.dataset.t;
  el.textContent = text;
}

/** The language to start with: the URL's, else the browser's. */
export function firstLanguage() {
  const chosen = new URLSearchParams(location.search).get('lang') ?? navigator.language;
  return chosen.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

/** Turns the whole page to a language. */
export function setLanguage(/** @type {string} */ language) {
  column = Math.max(0, LANGUAGES.indexOf(/** @type {any} */ (language)));
  document.documentElement.lang = column === 1 ? 'zh-Hans' : 'en';
  document.title = t('title');
  for (const el of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-t]'))) {
    say(el, /** @type {string} */ (el.dataset.t), argsOf.get(el));
  }
  for (const el of document.querySelectorAll('[data-t-label]')) {
    el.setAttribute('aria-label', t(/** @type {HTMLElement} */ (el).dataset.tLabel ?? ''));
  }
  for (const el of document.querySelectorAll('[data-t-placeholder]')) {
    el.setAttribute('placeholder', t(/** @type {HTMLElement} */ (el).dataset.tPlaceholder ?? ''));
  }
  for (const el of document.querySelectorAll('[data-language]')) {
    el.setAttribute('aria-pressed', String(/** @type {HTMLElement} */ (el).dataset.language === language));
  }
}
