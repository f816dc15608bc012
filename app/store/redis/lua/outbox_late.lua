-- Before an ack that no backend hears of: see passOver. KEYS h w W m; ARGV the place that is
-- acked, now, how long a lease is, and by how much the clock of Redis is ahead.
local from = tonumber(call('HGET', KEYS[1], 'am') or nil) or 0
passOver({ KEYS[2], KEYS[3], KEYS[4] }, from, tonumber(ARGV[1]), clock(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
return 1
