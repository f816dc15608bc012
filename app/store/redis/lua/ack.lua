-- Everything up to a place was acked. KEYS h and, where the script can reach it, the h
-- of messages to all; ARGV the place, the place among messages to all, the newest of
-- those (if the second key is missing), and the number of the life in which these
-- places were given out, if that is not the current one.
local s = call('HMGET', KEYS[1], 's', 'am', 'ab', 'lv', 'ln', 'f')
requireLife(s[5])
local head, heads = tonumber(s[1]) or 0, tonumber(ARGV[3])
local no = tonumber(ARGV[4])
if no then head = rare().lifeEnd(s[4], no, head) end
if KEYS[2] then
  local a = call('HMGET', KEYS[2], 's', 'lv')
  heads = tonumber(a[1]) or 0
  if no then heads = rare().lifeEnd(a[2], no, heads) end
end
local m, b = math.min(tonumber(ARGV[1]), head), math.min(tonumber(ARGV[2]), heads)
if m > (tonumber(s[2]) or 0) then call('HSET', KEYS[1], 'am', int(m)) end
-- Who has not joined, or was erased since, owns no messages to all.
if s[6] and b > (tonumber(s[3]) or 0) then call('HSET', KEYS[1], 'ab', int(b)) end
return 1
