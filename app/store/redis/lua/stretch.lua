-- stretch reads the messages of a mailbox after a place, at most count and about bytes of
-- them. s has the mailbox's newest place, up to where it was trimmed, and the user's first
-- place among messages to all. It returns these three, the last place of the stretch,
-- whether there is more, the messages (place, message, …; of a shared one a zero and its
-- id), and places within the stretch whose messages were removed on purpose (first, last, …).
local function stretch(m, g, s, after, count, bytes, now)
  local head = s[1] or '0'
  if tonumber(after) >= tonumber(head) then return { head, s[2] or '0', s[3] or '', head, 0, {}, {} } end
  local at, last, found, size, more = '(' .. after .. '-0', nil, {}, 0, 0
  while true do
    local n = math.min(count - #found / 2, 32)
    local page = call('XRANGE', m, at, '+', 'COUNT', n)
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
  return { head, s[2] or '0', s[3] or '', last, more, found, call('ZRANGEBYSCORE', g, '(' .. after, last, 'WITHSCORES') }
end
