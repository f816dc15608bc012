-- A callback that was given up is due again. KEYS o q b d s; ARGV id, head (see
-- outboxcodec.go), 1 if it is sent in order, now. It returns 1, or 0 if it is not there.
local k, now = { KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5] }, clock(ARGV[4])
local v = call('HGET', k[4], ARGV[1])
if not v then return 0 end
call('HDEL', k[4], ARGV[1])
local c = { id = ARGV[1], class = ARGV[3] == '1' and 'm' or 'e', value = string.sub(v, 1, 1) .. ARGV[2] .. string.sub(v, 2 + #ARGV[2]) }
return store(k, c, now)
