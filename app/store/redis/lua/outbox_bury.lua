-- Callbacks of a backend are about to be given up. KEYS D x Y; ARGV how long they are kept,
-- how many at most, how many bytes, now, then their members. It returns members that were
-- kept long enough, or are too many or too large, which it has taken out.
local k, now = { KEYS[1], KEYS[2], KEYS[3] }, clock(ARGV[4])
for i = 5, #ARGV do bury(k, ARGV[i], int(now)) end
local gone = call('ZRANGEBYSCORE', k[2], '-inf', int(now - tonumber(ARGV[1])), 'LIMIT', 0, 100)
for _, member in ipairs(gone) do unbury(k, member) end
local most, room = tonumber(ARGV[2]), tonumber(ARGV[3])
while #gone < 200 do
  local n, bytes = call('ZCOUNT', k[2], '-inf', '+inf'), tonumber(call('GET', k[3])) or 0
  if n <= most and bytes <= room then break end
  local oldest = call('ZRANGE', k[2], 0, 0)[1]
  if not oldest then break end
  unbury(k, oldest)
  gone[#gone + 1] = oldest
end
return gone
