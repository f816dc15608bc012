-- A session becomes present. KEYS h l and, where it is in reach, the h of
-- messages to all; ARGV session value now head dead lv. head is the newest place
-- among messages to all and lv where lives began among these, for where that h is
-- not given. It returns: the mailbox's head, what was acked in both logs, the first
-- place among messages to all, the newest of those, how many sessions there are, and
-- when the user was erased last.
local refused = over(call('HGET', KEYS[1], 'ln'))
if refused then return refused end
local head = ARGV[4]
if KEYS[3] then
  head = call('HGET', KEYS[3], 's') or '0'
else
  -- The log of messages to all may have gone back without this mailbox: what is said
  -- of it here holds as far as the life does in which it was said.
  local was = call('HMGET', KEYS[1], 'bn', 'f', 'ab')
  if was[1] and was[1] ~= BORN then
    for i, field in ipairs({ 'f', 'ab' }) do
      local at = tonumber(was[i + 1])
      local last = ended(ARGV[6], tonumber(was[1]), tonumber(head))
      if at and at > last then call('HSET', KEYS[1], field, int(last)) end
    end
  end
  if LIFE ~= '' then call('HSET', KEYS[1], 'bn', BORN) end
end
local first = call('HSETNX', KEYS[1], 'f', head)
call('HSET', KEYS[1], 'ls', ARGV[3])
if first == 1 and call('PTTL', KEYS[1]) < YEAR then call('PEXPIRE', KEYS[1], int(YEAR)) end
call('HSET', KEYS[2], ARGV[1], ARGV[2])
local live = call('HGETALL', KEYS[2])
local n = 0
local settled = tonumber(ARGV[3]) / 1000000 > tonumber(BORN) + 60000 -- all machines know this life by now
for i = 1, #live, 2 do
  local v = live[i + 1]
  if ARGV[5] ~= '' and string.find(ARGV[5], string.sub(v, 1, MACHINE), 1, true) or settled and stale(v) then
    call('HDEL', KEYS[2], live[i])
  elseif not stale(v) then
    n = n + 1
  end
end
local s = call('HMGET', KEYS[1], 's', 'am', 'ab', 'f', 'er')
return { s[1] or '0', s[2] or '0', s[3] or '0', s[4], head, n, s[5] or '0' }
