-- A machine that died, and whose sessions are taken out, is struck off. KEYS z n, its
-- sessions, those of the dead; ARGV machine, until when it may have lived
local alive = call('ZSCORE', KEYS[1], ARGV[1])
if not alive or tonumber(alive) >= tonumber(ARGV[2]) then return 0 end
if call('EXISTS', KEYS[3], KEYS[4]) > 0 then return 0 end
call('ZREM', KEYS[1], ARGV[1])
call('HDEL', KEYS[2], ARGV[1])
return 1
