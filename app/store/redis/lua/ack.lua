-- Everything up to a place was acked. KEYS h and, where it is in reach, the h of
-- messages to all; ARGV place, place among messages to all, the newest of those, the
-- number of the life that the places are of, where it is another one. What is in no
-- reach was cut back to that life's end by the caller.
local s = call('HMGET', KEYS[1], 's', 'am', 'ab', 'lv')
local refused = over(call('HGET', KEYS[1], 'ln'))
if refused then return refused end
local head, heads = tonumber(s[1]) or 0, tonumber(ARGV[3])
local no = tonumber(ARGV[4])
if no then head = ended(s[4], no, head) end
if KEYS[2] then
  local a = call('HMGET', KEYS[2], 's', 'lv')
  heads = tonumber(a[1]) or 0
  if no then heads = ended(a[2], no, heads) end
end
local m, b = math.min(tonumber(ARGV[1]), head), math.min(tonumber(ARGV[2]), heads)
if m > (tonumber(s[2]) or 0) then call('HSET', KEYS[1], 'am', int(m)) end
-- Who has not joined, or was erased since, owns no messages to all.
if call('HEXISTS', KEYS[1], 'f') == 0 then b = 0 end
if b > (tonumber(s[3]) or 0) then call('HSET', KEYS[1], 'ab', int(b)) end
return 1
