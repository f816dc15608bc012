-- A dead machine whose sessions were taken out is forgotten. KEYS the leases, how many
-- sessions machines have, the machine's sessions, those of it as a dead one; ARGV the
-- machine, a time as in reap.lua
local lease = call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) >= tonumber(ARGV[2]) then return 0 end
if call('EXISTS', KEYS[3], KEYS[4]) > 0 then return 0 end
call('ZREM', KEYS[1], ARGV[1])
call('HDEL', KEYS[2], ARGV[1])
return 1
