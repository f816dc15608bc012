-- Users have acked everything up to places of the current life. KEYS the h of each user,
-- and the h of messages to all; ARGV of each user the place in the mailbox and the one
-- among messages to all. See lua/ack.lua.
local heads = tonumber(call('HGET', KEYS[#KEYS], 's')) or 0
for i = 1, #KEYS - 1 do
  local h = KEYS[i]
  local s = call('HMGET', h, 's', 'am', 'ab', 'f')
  local m, b = math.min(tonumber(ARGV[2 * i - 1]), tonumber(s[1]) or 0), math.min(tonumber(ARGV[2 * i]), heads)
  local further, further2 = m > (tonumber(s[2]) or 0), s[4] and b > (tonumber(s[3]) or 0)
  if further and further2 then
    call('HSET', h, 'am', int(m), 'ab', int(b))
  elseif further then
    call('HSET', h, 'am', int(m))
  elseif further2 then
    call('HSET', h, 'ab', int(b))
  end
end
return 1
