-- A machine renews its lease, by the clock of Redis. KEYS z n e: until when machines'
-- leases are, how many sessions machines have, the store's epoch; ARGV self lease
-- sessions channel tick epoch. It returns: this time, the epoch, whether the lease had
-- lapsed, and all of z and n.
local now = rare().clock()
local old = call('ZSCORE', KEYS[1], ARGV[1])
call('ZADD', KEYS[1], int(now + tonumber(ARGV[2])), ARGV[1])
call('HSET', KEYS[2], ARGV[1], ARGV[3])
if call('EXISTS', KEYS[3]) == 0 then call('SET', KEYS[3], ARGV[6]) end
call('PUBLISH', ARGV[4] .. ARGV[1], 'K' .. ARGV[5])
local lapsed = (not old or tonumber(old) < now) and 1 or 0
return { int(now), call('GET', KEYS[3]), lapsed, call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), call('HGETALL', KEYS[2]) }
