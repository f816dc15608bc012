-- The state of a mailbox, for an export. KEYS h g
-- It returns: the newest place, up to where it was trimmed, the first place among
-- messages to all, what was acked, when its user was last seen, where lives began in
-- it, and places whose messages were removed on purpose (first, last, …).
local s = call('HMGET', KEYS[1], 's', 'tr', 'f', 'am', 'ab', 'ls', 'lv')
return { s[1] or '0', s[2] or '0', s[3] or '', s[4] or '0', s[5] or '0', s[6] or '0', s[7] or '',
  call('ZRANGEBYSCORE', KEYS[2], '(' .. (s[2] or '0'), '+inf', 'WITHSCORES') }
