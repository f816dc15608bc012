-- A session saw an event: the first time is kept. KEYS S h; ARGV id session at ttl
local erased = call('HGET', KEYS[2], 'ea')
if erased and ARGV[3] < erased then return 0 end
local v = call('HGET', KEYS[1], ARGV[1]) or ''
if string.find(v, ';' .. ARGV[2] .. ' ', 1, true) then return 0 end
call('HSET', KEYS[1], ARGV[1], v .. ';' .. ARGV[2] .. ' ' .. ARGV[3])
call('PEXPIRE', KEYS[1], ARGV[4])
return 1
