-- What a user has for a backend that is to be hurried is due now. KEYS o; ARGV now. It
-- returns how many callbacks these are.
local now, n = clock(ARGV[1]), 0
for id, due in O.fields(call('ZRANGEBYSCORE', KEYS[1], int(now), '+inf', 'WITHSCORES')) do
  if tonumber(due) % 1 == 0.5 then
    call('ZADD', KEYS[1], int(now), id)
    n = n + 1
  end
end
return n
