-- When it is to be seen whether a user is still there. KEYS w W, t unless index is 0, and
-- callbacks (see outbox_lib.lua); ARGV due, what the timer is about, 1 if one may begin,
-- tag, index, and callbacks. It returns 'known' if there is one, 'none' if there is none, and
-- none may begin.
local p, there = callbacks(), call('ZSCORE', KEYS[1], 'o')
if not there and ARGV[3] ~= '1' then return { 'none' } end
addTimer(KEYS[1], KEYS[2], 'o', ARGV[1], ARGV[2], p.now)
if ARGV[5] == '1' then hint(KEYS[3], ARGV[4], tonumber(ARGV[1])) end
if there then return { 'known' } end
return storeAll(p)
