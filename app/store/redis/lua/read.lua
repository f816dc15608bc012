-- A stretch of a mailbox. KEYS h m g; ARGV after count bytes now
-- It returns: the newest place, up to where it was trimmed, the first place
-- among messages to all, the last place of the stretch, whether there is more,
-- the messages (place, message, …; of a shared one a zero and its id), and places
-- within the stretch whose messages were removed on purpose (first, last, …).
local s = call('HMGET', KEYS[1], 's', 'tr', 'f', 'ln')
requireLife(s[4])
local head = s[1] or '0'
local count, bytes, now = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at, last, found, size, more = '(' .. ARGV[1] .. '-0', nil, {}, 0, 0
while true do
  local n = math.min(count - #found / 2, 32)
  local page = call('XRANGE', KEYS[2], at, '+', 'COUNT', n)
  for _, e in ipairs(page) do
    if size >= bytes then more = 1 break end
    last = string.match(e[1], '^(%d+)')
    if tonumber(e[2][2]) > now then
      local shared = e[2][3] == 'r'
      found[#found + 1], found[#found + 2] = last, shared and '\0' .. e[2][4] or e[2][4]
      size = size + (shared and tonumber(string.match(e[2][6], '^%d+')) or #e[2][4])
    end
    at = '(' .. e[1]
  end
  if more == 1 then break end
  if #page < n then last = nil break end
  if #found / 2 >= count or size >= bytes then
    if last ~= head then more = 1 end
    break
  end
end
last = last or head
return { head, s[2] or '0', s[3] or '', last, more, found, call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], last, 'WITHSCORES') }
