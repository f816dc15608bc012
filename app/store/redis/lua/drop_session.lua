-- A session of a dead machine is taken out of its user's sessions. KEYS h l; ARGV the
-- session, the machine, when the machine was last known to live (nanoseconds)
local v = call('HGET', KEYS[2], ARGV[1])
if not v or string.sub(v, 1, MACHINE) ~= ARGV[2] then return 0 end
call('HDEL', KEYS[2], ARGV[1])
local seen = call('HGET', KEYS[1], 'ls')
if seen and tonumber(seen) < tonumber(ARGV[3]) then call('HSET', KEYS[1], 'ls', ARGV[3]) end
return 1
