-- Everything up to a place was acked, and callbacks tell so. KEYS h w W m and callbacks (see
-- outbox_lib.lua); ARGV the acked places for which they were made, in the mailbox and
-- among messages to all; the places that were acked; how long a lease is; by how much the
-- clock of Redis is ahead of those by which messages expire; and callbacks. It returns
-- 'moved' if somebody else has acked meanwhile.
local s = call('HMGET', KEYS[1], 'am', 'ab', 'f', 'ln')
requireLife(s[4])
if (tonumber(s[1]) or 0) ~= tonumber(ARGV[1]) or (tonumber(s[2]) or 0) ~= tonumber(ARGV[2]) then return { 'moved' } end
local p, from, to = callbacks(), tonumber(ARGV[1]), tonumber(ARGV[3])
local out = storeAll(p)
if to > from then passOver({ KEYS[2], KEYS[3], KEYS[4] }, from, to, p.now, tonumber(ARGV[5]), tonumber(ARGV[6])) end
if to > from then call('HSET', KEYS[1], 'am', ARGV[3]) end
if s[3] and tonumber(ARGV[4]) > tonumber(ARGV[2]) then call('HSET', KEYS[1], 'ab', ARGV[4]) end
return out
