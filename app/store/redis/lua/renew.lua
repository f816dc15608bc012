-- A machine says that it lives, by the clock of Redis. KEYS z n e, of machines:
-- until when they live, how many sessions they have, the store's epoch; ARGV self
-- lease sessions channel tick epoch. It returns: this time, the epoch, whether
-- the lease had lapsed, and the machines' z and n.
local t = call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local old = call('ZSCORE', KEYS[1], ARGV[1])
call('ZADD', KEYS[1], int(now + tonumber(ARGV[2])), ARGV[1])
call('HSET', KEYS[2], ARGV[1], ARGV[3])
if call('EXISTS', KEYS[3]) == 0 then call('SET', KEYS[3], ARGV[6]) end
call('PUBLISH', ARGV[4] .. ARGV[1], 'K' .. ARGV[5])
local lapsed = 0
if not old or tonumber(old) < now then lapsed = 1 end
return { int(now), call('GET', KEYS[3]), lapsed, call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), call('HGETALL', KEYS[2]) }
