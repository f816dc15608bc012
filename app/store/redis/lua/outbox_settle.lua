-- A lease on a callback ends. KEYS o q b d s; ARGV how, id, until when it was leased, its
-- head (see outboxcodec.go), when it is due again, what is added to a dead one, how
-- long dead ones are kept, how many that were taken are remembered, now. how: done, again or dead. Who has lost the lease can only say
-- that it is done. It returns 1 if the callback does not wait any more, when the next one is due,
-- and 1 if the callback is among those that were given up, or 2 if it was until now.
local k, how, id = { KEYS[1], KEYS[2], KEYS[3], KEYS[4] }, ARGV[1], ARGV[2]
local now, v = clock(ARGV[9]), call('HGET', KEYS[3], id)

-- taken remembers that the backend has taken a callback that is sent in order.
local function taken()
  call('ZADD', KEYS[5], int(now), id)
  call('ZREMRANGEBYRANK', KEYS[5], 0, int(-1 - tonumber(ARGV[8])))
  call('ZREMRANGEBYSCORE', KEYS[5], '-inf', int(now - tonumber(ARGV[7])))
  call('PEXPIRE', KEYS[5], ARGV[7])
end

if not v and how == 'done' then
  local dead = call('HGET', k[4], id) -- another machine has given it up
  if dead then
    call('HDEL', k[4], id)
    if tonumber(string.sub(dead, NUMBER, NUMBER + DIGITS - 1)) ~= 0 then taken() end
    return { 0, first(k[1]), 2 }
  end
end
if not v or how ~= 'done' and tonumber(call('ZSCORE', k[1], id) or nil) ~= tonumber(ARGV[3]) then
  return { 0, first(k[1]), call('HEXISTS', k[4], id) }
end
v = string.sub(v, 1, 1) .. ARGV[4] .. string.sub(v, 2 + #ARGV[4])
if how == 'again' then
  call('HSET', k[3], id, v)
  call('ZADD', k[1], ARGV[5], id)
  return { 0, first(k[1]), 0 }
end
if how == 'dead' then
  call('HSET', k[4], id, v .. ARGV[6])
  call('PEXPIRE', k[4], ARGV[7])
end
call('HDEL', k[3], id)
call('ZREM', k[1], id)
if call('ZREM', k[2], id) == 1 and how == 'done' then taken() end
head(k, now)
return { 1, first(k[1]), how == 'dead' and 1 or 0 }
