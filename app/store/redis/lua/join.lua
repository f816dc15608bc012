-- A session becomes present, or gets another token. KEYS h l R K and, where the script
-- can reach it, the h of messages to all; ARGV session value now head dead since token
-- until issued jti groups ms again lv whole. head is the newest place among messages to
-- all, and lv says where lives began among these, for a script that cannot reach that h;
-- now and since are nanoseconds of 19 digits, ms is now in milliseconds. again: the
-- session was present before, and its token says nothing new. whole: a user who was
-- never seen owns all messages to all, and not only those to come.
-- It returns 'e' for a session that began before its user was erased (and 1 if the user has
-- come back since), 'r' for a revoked token, or 'j', the user's state, 1 if the
-- user is seen for the first time, and a token that names no groups any more with the
-- entry that it had in K.
local h, l, K, session, token = KEYS[1], KEYS[2], KEYS[4], ARGV[1], ARGV[7]
local R = rare()
requireLife(call('HGET', h, 'ln'))
local erased = call('HGET', h, 'ea')
if erased and ARGV[6] ~= '' and ARGV[6] < erased then return { 'e', call('HEXISTS', h, 'f') } end
if ARGV[10] ~= '' and call('HEXISTS', KEYS[3], 'j' .. ARGV[10]) == 1 then return { 'r' } end
if tonumber(ARGV[9]) < (tonumber(call('HGET', KEYS[3], 'b')) or 0) then return { 'r' } end
local head = ARGV[4]
if KEYS[5] then
  head = call('HGET', KEYS[5], 's') or '0'
else
  -- The log of messages to all may have gone back in time, and this mailbox not. The
  -- places in that log that are noted here are good up to the end of their life.
  local was = call('HMGET', h, 'bn', 'f', 'ab')
  if was[1] and was[1] ~= BORN then
    local last = R.lifeEnd(ARGV[14], tonumber(was[1]), tonumber(head))
    for i, field in ipairs({ 'f', 'ab' }) do
      local at = tonumber(was[i + 1])
      if at and at > last then call('HSET', h, field, int(last)) end
    end
  end
  if LIFE ~= '' then call('HSET', h, 'bn', BORN) end
end
local first = call('HSETNX', h, 'f', ARGV[15] == '1' and '0' or head)
call('HSET', h, 'ls', ARGV[3])
if first == 1 then R.prolong(h, YEAR) end

-- tokenOf returns the fingerprint of a session's token, which is the first member of the
-- session's entry in l (see encodePresence in presence.go); '' in entries of older versions.
local function tokenOf(v)
  if string.byte(v, MACHINE + 2) ~= 15 then return '' end
  return string.sub(v, MACHINE + 4, MACHINE + 3 + string.byte(v, MACHINE + 3))
end

local n, before, others = 1, nil, {}
local settled = tonumber(ARGV[12]) > tonumber(BORN) + 60000 -- all machines know this life by now
for other, v in R.fields(call('HGETALL', l)) do
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
local out = { 'j', '0', '0', '0', '0', head, n, first }
if before and before ~= token and not others[before] then
  local entry = call('HGET', K, before)
  if entry then
    call('HDEL', K, before)
    out[9], out[10] = before, entry
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
    R.prolong(K, till - now)
    if call('HLEN', K) > 32 then
      for other, v in R.fields(call('HGETALL', K)) do
        if untilOf(v) <= now then call('HDEL', K, other) end
      end
    end
  end
elseif entry and ARGV[13] ~= '1' then
  call('HDEL', K, token)
end
local s = call('HMGET', h, 's', 'am', 'ab', 'f')
out[2], out[3], out[4], out[5] = s[1] or '0', s[2] or '0', s[3] or '0', s[4]
return out
