-- A group is added to those that a token names, for an import. KEYS K; ARGV the token's
-- fingerprint, until when it is good, when it was issued, its id, the group, now
local v = call('HGET', KEYS[1], ARGV[1])
if not v then v = '1\n' .. ARGV[2] .. '\n' .. ARGV[3] .. '\n' .. ARGV[4] end
if not string.find(v .. '\n', '\n' .. ARGV[5] .. '\n', 1, true) then
  call('HSET', KEYS[1], ARGV[1], v .. '\n' .. ARGV[5])
end
rare().prolong(KEYS[1], tonumber(ARGV[2]) - tonumber(ARGV[6]))
return 1
