-- A session becomes present, or gets another token; it may also read its first page.
-- KEYS h l R K m g and, where one script can reach them all, the h of messages to all, the
-- list of users, the machines' counts of sessions, this machine's list of sessions, the m
-- and g of messages to all, the user's groups and the lists of the groups that the token
-- names, in their order.
-- ARGV session value now head dead since token until issued jti groups ms again lv whole,
-- then user machine count tag, then how to read: nothing, 'acked' or 'after', and two
-- places, a count and bytes. head is the newest place among messages to all, and lv says
-- where lives began among these, for a script that cannot reach that h; now and since are
-- nanoseconds of 19 digits, ms is now in milliseconds. again: the session was present
-- before, and its token says nothing new. whole: a user who was never seen owns all
-- messages to all, and not only those to come. count: this machine's sessions, and tag:
-- the user's keys', for the lists. The page begins at what the user has acked, or at the
-- two places.
-- It returns 'e' for a session that began before its user was erased (and 1 if the user has
-- come back since), 'r' for a revoked token, or 'j', the user's state, 1 if the user is seen
-- for the first time, a token that names no groups any more with the entry that it had in K
-- (two empty texts for none), and, if there is a page, its two places and one or two
-- stretches (see lua/stretch.lua).
local h, l, K, session, token = KEYS[1], KEYS[2], KEYS[4], ARGV[1], ARGV[7]
local s = call('HMGET', h, 's', 'tr', 'f', 'ln', 'ea', 'am', 'ab', 'bn')
requireLife(s[4])
if s[5] and ARGV[6] ~= '' and ARGV[6] < s[5] then return { 'e', s[3] and 1 or 0 } end
local revoked = call('HMGET', KEYS[3], 'b', 'j' .. ARGV[10])
if ARGV[10] ~= '' and revoked[2] or tonumber(ARGV[9]) < (tonumber(revoked[1]) or 0) then return { 'r' } end
local head, all, first, acked2 = ARGV[4], nil, s[3], tonumber(s[7]) or 0
if KEYS[7] then
  all = call('HMGET', KEYS[7], 's', 'tr', 'f')
  head = all[1] or '0'
  call('ZADD', KEYS[8], 0, ARGV[16])
  call('HSET', KEYS[9], ARGV[17], ARGV[18])
  call('HSET', KEYS[10], session, ARGV[19])
elseif LIFE ~= '' and s[8] ~= BORN then
  -- The log of messages to all may have gone back in time, and this mailbox not. The
  -- places in that log that are noted here are good up to the end of their life.
  if s[8] then
    local last = rare().lifeEnd(ARGV[14], tonumber(s[8]), tonumber(head))
    if first and tonumber(first) > last then
      first = int(last)
      call('HSET', h, 'f', first)
    end
    if acked2 > last then
      acked2 = last
      call('HSET', h, 'ab', int(last))
    end
  end
  call('HSET', h, 'bn', BORN)
end
local isNew = not first
if isNew then
  first = ARGV[15] == '1' and '0' or head
  call('HSET', h, 'f', first, 'ls', ARGV[3])
  if call('PTTL', h) < YEAR then call('PEXPIRE', h, int(YEAR)) end
else
  call('HSET', h, 'ls', ARGV[3])
end

-- tokenOf returns the fingerprint of a session's token, which is the first member of the
-- session's entry in l (see encodePresence in presence.go); '' in entries of older versions.
local function tokenOf(v)
  if string.byte(v, MACHINE + 2) ~= 15 then return '' end
  return string.sub(v, MACHINE + 4, MACHINE + 3 + string.byte(v, MACHINE + 3))
end

local n, before, others = 1, nil, {}
local live = call('HGETALL', l)
local settled = tonumber(ARGV[12]) > tonumber(BORN) + 60000 -- all machines know this life by now
for i = 1, #live, 2 do
  local other, v = live[i], live[i + 1]
  if other == session then
    before = tokenOf(v)
  elseif ARGV[5] ~= '' and string.find(ARGV[5], string.sub(v, 1, MACHINE), 1, true) or settled and stale(v) then
    call('HDEL', l, other)
  else
    if not stale(v) then n = n + 1 end
    others[tokenOf(v)] = true
  end
end
call('HSET', l, session, ARGV[2] .. string.sub(MARK, 1, 10)) -- see stale
local lost, lostEntry = '', ''
if before and before ~= token and not others[before] then
  local entry = call('HGET', K, before)
  if entry then
    call('HDEL', K, before)
    lost, lostEntry = before, entry
  end
end

local function untilOf(entry) return tonumber(string.match(entry, '^1\n(%d+)')) or 0 end

local now, till = tonumber(ARGV[12]), tonumber(ARGV[8])
local entry = call('HGET', K, token)
if ARGV[11] ~= '' and till > now then
  if not entry or ARGV[13] ~= '1' then
    local was = entry and untilOf(entry) or 0
    if was > till then till = was end
    call('HSET', K, token, '1\n' .. int(till) .. '\n' .. ARGV[9] .. '\n' .. ARGV[10] .. ARGV[11])
    rare().prolong(K, till - now)
    if call('HLEN', K) > 32 then
      for other, v in rare().fields(call('HGETALL', K)) do
        if untilOf(v) <= now then call('HDEL', K, other) end
      end
    end
    local i = 13
    for group in string.gmatch(KEYS[i] and ARGV[11] or '', '\n([^\n]*)') do
      i = i + 1
      call('SADD', KEYS[13], group)
      call('ZADD', KEYS[i], 'GT', int(till), ARGV[16] .. '\n' .. token)
    end
  end
elseif entry and ARGV[13] ~= '1' then
  call('HDEL', K, token)
end

local acked = s[6] or '0'
local out = { 'j', s[1] or '0', acked, int(acked2), first, head, n, isNew and 1 or 0, lost, lostEntry }
if ARGV[20] ~= '' then
  local a, b = ARGV[21], ARGV[22]
  if ARGV[20] == 'acked' then a, b = acked, int(acked2) end
  if tonumber(b) < tonumber(first) then b = first end
  local count, bytes = tonumber(ARGV[23]), tonumber(ARGV[24])
  out[11], out[12] = a, b
  out[13] = stretch(KEYS[5], KEYS[6], { s[1], s[2], first }, a, count, bytes, now)
  if all then out[14] = stretch(KEYS[11], KEYS[12], all, b, count, bytes, now) end
end
return out
