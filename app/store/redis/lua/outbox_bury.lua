-- Callbacks of a backend are about to be given up. KEYS D x; ARGV how long they are kept,
-- how many at most, now, then their members. It returns members that were kept long
-- enough, or are too many.
local now = clock(ARGV[3])
for i = 4, #ARGV do
  call('ZADD', KEYS[1], 0, ARGV[i])
  call('ZADD', KEYS[2], int(now), ARGV[i])
end
local gone = call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now - tonumber(ARGV[1])), 'LIMIT', 0, 100)
local over = call('ZCOUNT', KEYS[2], '-inf', '+inf') - #gone - tonumber(ARGV[2])
if over > 0 then gone = call('ZRANGE', KEYS[2], 0, math.min(#gone + over, 200) - 1) end
for _, member in ipairs(gone) do
  call('ZREM', KEYS[1], member)
  call('ZREM', KEYS[2], member)
end
call('PEXPIRE', KEYS[1], int(YEAR))
call('PEXPIRE', KEYS[2], int(YEAR))
return gone
