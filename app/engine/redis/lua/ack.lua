-- Everything up to a place was acked. KEYS h and, where it is in reach, the h of
-- messages to all; ARGV place, place among messages to all, the newest of those.
local s = call('HMGET', KEYS[1], 's', 'am', 'ab')
local head = ARGV[3]
if KEYS[2] then head = call('HGET', KEYS[2], 's') or '0' end
local m, b = math.min(tonumber(ARGV[1]), tonumber(s[1]) or 0), math.min(tonumber(ARGV[2]), tonumber(head))
if m > (tonumber(s[2]) or 0) then call('HSET', KEYS[1], 'am', int(m)) end
-- Who has not joined, or was erased since, owns no messages to all.
if call('HEXISTS', KEYS[1], 'f') == 0 then b = 0 end
if b > (tonumber(s[3]) or 0) then call('HSET', KEYS[1], 'ab', int(b)) end
return 1
