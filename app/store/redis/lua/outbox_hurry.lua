-- What a user has for a backend that is to be hurried is due now. KEYS o; ARGV now. It
-- returns 1 if something is due, also what was hurried by somebody who broke off then.
local now = int(clock(ARGV[1]))
for id, due in O.fields(call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES')) do
  if tonumber(due) % 1 == 0.5 then call('ZADD', KEYS[1], now, id) end
end
return call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1] and 1 or 0
