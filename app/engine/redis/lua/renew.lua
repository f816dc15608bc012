-- A machine says that it lives, by the clock of Redis. KEYS z n e, of machines:
-- until when they live, how many sessions they have, the store's epoch; ARGV self
-- lease sessions channel tick epoch. It returns: this time, the epoch, whether
-- the lease had lapsed, and the machines' z and n.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local old = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], int(now + tonumber(ARGV[2])), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
for _, machine in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now - 30 * DAY))) do
  redis.call('ZREM', KEYS[1], machine)
  redis.call('HDEL', KEYS[2], machine)
end
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('SET', KEYS[3], ARGV[6]) end
redis.call('PUBLISH', ARGV[4] .. ARGV[1], 'K' .. ARGV[5])
local lapsed = 0
if not old or tonumber(old) < now then lapsed = 1 end
return { int(now), redis.call('GET', KEYS[3]), lapsed, redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[2]) }
