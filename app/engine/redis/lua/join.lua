-- A session becomes present. KEYS h l and, where it is in reach, the h of
-- messages to all; ARGV session value now head dead. head is the newest place
-- among messages to all, where that h is not given.
local head = ARGV[4]
if KEYS[3] then head = call('HGET', KEYS[3], 's') or '0' end
local first = call('HSETNX', KEYS[1], 'f', head)
call('HSET', KEYS[1], 'ls', ARGV[3])
if first == 1 and call('PTTL', KEYS[1]) < YEAR then call('PEXPIRE', KEYS[1], int(YEAR)) end
call('HSET', KEYS[2], ARGV[1], ARGV[2])
local live = call('HGETALL', KEYS[2])
local n = 0
for i = 1, #live, 2 do
  if ARGV[5] ~= '' and string.find(ARGV[5], string.sub(live[i + 1], 1, MACHINE), 1, true) then
    call('HDEL', KEYS[2], live[i])
  else
    n = n + 1
  end
end
local s = call('HMGET', KEYS[1], 's', 'am', 'ab', 'f')
return { s[1] or '0', s[2] or '0', s[3] or '0', s[4], head, n }
