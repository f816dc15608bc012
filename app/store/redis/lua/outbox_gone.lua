-- A session of a user was taken out: it is to be seen now whether the user is still there.
-- KEYS w; ARGV now. It returns 1 if the user has a timer for that, which was due later.
local now, due = clock(ARGV[1]), tonumber(call('ZSCORE', KEYS[1], 'o') or nil)
if not due or due <= now then return 0 end
call('ZADD', KEYS[1], int(now), 'o')
return 1
