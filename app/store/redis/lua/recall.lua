-- A message is taken out of one mailbox, and the mailbox's sessions are told.
-- KEYS h m g l; ARGV now place channel self notice all
local E = entries()
local now, place = tonumber(ARGV[1]), ARGV[2]
local e = place ~= '0' and E.entry(KEYS[2], place)
if e then
  E.delete(KEYS[2], { e[1] })
  local s = call('HMGET', KEYS[1], 'b', 'mx')
  if s[1] then call('HSET', KEYS[1], 'b', int(math.max(0, tonumber(s[1]) - E.sizeOf(e)))) end
  if E.expiryOf(e) > now then -- what has expired is lost, recalled or not
    E.addRemoved(KEYS[3], tonumber(place), now, tonumber(s[2]) or now + DAY)
  end
end
if ARGV[6] == '1' then
  call('PUBLISH', ARGV[3] .. 'all', ARGV[5])
else
  rare().notify(KEYS[4], ARGV[3], ARGV[4], ARGV[5])
end
return 1
