-- Whose slots have something that is due: these are the caller's to visit for a while.
-- KEYS z (or t); ARGV how many at most, how long, now. It returns the time, when the
-- next after these is due, and of each its tag, until when it is the caller's to visit, and
-- 1 if its slot was empty the last time.
local now = clock(ARGV[3])
local till = int(now + tonumber(ARGV[2]))
local out = { int(now), '' }
for tag, score in O.fields(call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])) do
  out[#out + 1], out[#out + 2], out[#out + 3] = tag, till, tonumber(score) % 1 == 0.5 and '1' or '0'
end
out[2] = call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
for i = 3, #out, 3 do call('ZADD', KEYS[1], till, out[i]) end
return out
