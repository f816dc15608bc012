-- The state of a mailbox, for an export. KEYS h m g; ARGV now
-- It returns: the newest place, up to where it was trimmed, the first place among
-- messages to all, what was acked, when its user was last seen, the furthest place
-- that expired, places taken out on purpose (first, last, …), furthest first, and
-- where lives began in it.
local now = tonumber(ARGV[1])
local s = call('HMGET', KEYS[1], 's', 'tr', 'f', 'am', 'ab', 'ls', 'lv')
local tr = tonumber(s[2]) or 0
local taken = call('ZREVRANGEBYSCORE', KEYS[3], '+inf', '(' .. int(tr), 'WITHSCORES')
-- Down from the newest place to the first that is neither there nor taken out.
local at, hole = tonumber(s[1]) or 0, 1
local page, n, from, expired = {}, 1, '+', 0
while at > tr do
  local last = tonumber(taken[hole + 1])
  if last and last >= at then
    at = math.min(at, tonumber(taken[hole]) - 1)
    hole = hole + 2
  else
    if n > #page then
      page, n = call('XREVRANGE', KEYS[2], from, '-', 'COUNT', 200), 1
      if #page > 0 then from = '(' .. page[#page][1] end
    end
    local e = page[n]
    local place = e and tonumber(string.match(e[1], '^(%d+)')) or 0
    if place < at or place == at and tonumber(e[2][2]) <= now then
      expired = at
      break
    end
    if place == at then at = at - 1 end
    n = n + 1
  end
end
return { s[1] or '0', s[2] or '0', s[3] or '', s[4] or '0', s[5] or '0', s[6] or '0', int(expired), taken, s[7] or '' }
