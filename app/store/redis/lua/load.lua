-- Messages of an export come into a mailbox at the places that they had; those that
-- are there already do not come twice. KEYS h m t; ARGV now, then for each message, in
-- the order of places: place exp topic blob number size. number is empty if blob is the
-- message, and not the id by which it is shared.
local now = tonumber(ARGV[1])
local s = call('HMGET', KEYS[1], 'nx', 'mx')
local nx, mx = tonumber(s[1]), tonumber(s[2])
local newest = call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local last = newest and entries().placeOf(newest) or 0
for i = 2, #ARGV, 6 do
  local place, x = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if place > last and x > now then
    put(KEYS[2], ARGV[i], ARGV[i + 1], ARGV[i + 5], ARGV[i + 3], ARGV[i + 4] ~= '' and { id = ARGV[i + 3], number = ARGV[i + 4] } or nil)
    if ARGV[i + 2] ~= '' then call('HSET', KEYS[3], ARGV[i + 2], ARGV[i] .. ' ' .. ARGV[i + 1]) end
    last = place
    nx, mx = math.min(nx or x, x), math.max(mx or 0, x + DAY)
  end
end
if not mx then return 0 end
call('HSET', KEYS[1], 'nx', int(nx), 'mx', int(mx))
call('PEXPIRE', KEYS[1], int(mx - now + YEAR))
call('PEXPIRE', KEYS[2], int(mx - now))
call('PEXPIRE', KEYS[3], int(mx - now))
return 1
