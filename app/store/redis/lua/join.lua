-- A session becomes present, or gets another token. KEYS h l R K and, where it is
-- in reach, the h of messages to all; ARGV session value now head dead since token
-- until issued jti groups ms again lv whole. head is the newest place among messages to all,
-- and lv where lives began among these, where that h is not given; now and since are
-- nanoseconds of 19 digits, ms the same now. again: the session was present before, and
-- says nothing new. whole: to a user who was never seen, all messages to all belong.
-- It returns 'e' (and 1 where the user has come back) for one that began before its
-- user was erased, 'r' for a revoked token, or 'j', where the user stands, whether
-- they are seen for the first time, and a token that says nothing any more with
-- what it said.
local h, l, K, session, token = KEYS[1], KEYS[2], KEYS[4], ARGV[1], ARGV[7]
local refused = over(call('HGET', h, 'ln'))
if refused then return refused end
local erased = call('HGET', h, 'ea')
if erased and ARGV[6] ~= '' and ARGV[6] < erased then return { 'e', call('HEXISTS', h, 'f') } end
if ARGV[10] ~= '' and call('HEXISTS', KEYS[3], 'j' .. ARGV[10]) == 1 then return { 'r' } end
if tonumber(ARGV[9]) < (tonumber(call('HGET', KEYS[3], 'b')) or 0) then return { 'r' } end
local head = ARGV[4]
if KEYS[5] then
  head = call('HGET', KEYS[5], 's') or '0'
else
  -- The log of messages to all may have gone back without this mailbox: what is said
  -- of it here holds as far as the life does in which it was said.
  local was = call('HMGET', h, 'bn', 'f', 'ab')
  if was[1] and was[1] ~= BORN then
    for i, field in ipairs({ 'f', 'ab' }) do
      local at = tonumber(was[i + 1])
      local last = ended(ARGV[14], tonumber(was[1]), tonumber(head))
      if at and at > last then call('HSET', h, field, int(last)) end
    end
  end
  if LIFE ~= '' then call('HSET', h, 'bn', BORN) end
end
local first = call('HSETNX', h, 'f', ARGV[15] == '1' and '0' or head)
call('HSET', h, 'ls', ARGV[3])
if first == 1 and call('PTTL', h) < YEAR then call('PEXPIRE', h, int(YEAR)) end
local live = call('HGETALL', l)
local n, before, others = 1, nil, {}
local settled = tonumber(ARGV[12]) > tonumber(BORN) + 60000 -- all machines know this life by now
for i = 1, #live, 2 do
  local v = live[i + 1]
  if live[i] == session then
    before = tokenOf(v)
  elseif ARGV[5] ~= '' and string.find(ARGV[5], string.sub(v, 1, MACHINE), 1, true) or settled and stale(v) then
    call('HDEL', l, live[i])
  else
    if not stale(v) then n = n + 1 end
    others[tokenOf(v)] = true
  end
end
call('HSET', l, session, ARGV[2] .. string.sub(MARK, 1, 10)) -- see stale
local out = { 'j', '0', '0', '0', '0', head, n, first }
if before and before ~= token and not others[before] then
  local said = call('HGET', K, before)
  if said then
    call('HDEL', K, before)
    out[9], out[10] = before, said
  end
end
local now, till = tonumber(ARGV[12]), tonumber(ARGV[8])
local said = call('HGET', K, token)
if ARGV[11] ~= '' and till > now then
  if not said or ARGV[13] ~= '1' then
    local was = said and tonumber(string.match(said, '^1\n(%d+)')) or 0
    if was > till then till = was end
    call('HSET', K, token, '1\n' .. int(till) .. '\n' .. ARGV[9] .. '\n' .. ARGV[10] .. ARGV[11])
    if call('PTTL', K) < till - now then call('PEXPIRE', K, int(till - now)) end
    if call('HLEN', K) > 32 then
      local all = call('HGETALL', K)
      for i = 1, #all, 2 do
        if (tonumber(string.match(all[i + 1], '^1\n(%d+)')) or 0) <= now then call('HDEL', K, all[i]) end
      end
    end
  end
elseif said and ARGV[13] ~= '1' then
  call('HDEL', K, token)
end
local s = call('HMGET', h, 's', 'am', 'ab', 'f')
out[2], out[3], out[4], out[5] = s[1] or '0', s[2] or '0', s[3] or '0', s[4]
return out
