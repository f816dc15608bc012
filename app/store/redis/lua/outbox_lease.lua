-- Callbacks of a user that are due are leased to the caller. KEYS o q b; ARGV how many at
-- most, how long, now. It returns when the next is due, until when these are leased,
-- and of each its id, since when it was due, and itself.
local now = clock(ARGV[3])
local till = int(now + tonumber(ARGV[2]))
local out = { '', till }
head({ KEYS[1], KEYS[2], KEYS[3] }, now)
local turn = call('ZRANGE', KEYS[2], 0, 0)[1] -- the only one in order that may be leased
for id, due in O.fields(call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])) do
  local v = call('HGET', KEYS[3], id)
  if v and (id == turn or not call('ZSCORE', KEYS[2], id)) then
    call('ZADD', KEYS[1], till, id)
    out[#out + 1], out[#out + 2], out[#out + 3] = id, due, v
  else
    call('ZREM', KEYS[1], id)
  end
end
out[1] = first(KEYS[1])
return out
