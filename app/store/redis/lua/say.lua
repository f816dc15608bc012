-- A token says, as an export tells, that its user is in a group. KEYS K;
-- ARGV token until issued jti group now
local v = call('HGET', KEYS[1], ARGV[1])
if not v then v = '1\n' .. ARGV[2] .. '\n' .. ARGV[3] .. '\n' .. ARGV[4] end
if not string.find(v .. '\n', '\n' .. ARGV[5] .. '\n', 1, true) then
  call('HSET', KEYS[1], ARGV[1], v .. '\n' .. ARGV[5])
end
local ttl = tonumber(ARGV[2]) - tonumber(ARGV[6])
if call('PTTL', KEYS[1]) < ttl then call('PEXPIRE', KEYS[1], int(ttl)) end
return 1
