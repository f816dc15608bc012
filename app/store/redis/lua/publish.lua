-- Messages, each to one user or to all, each stored as a whole or not at all. Not for
-- a Cluster: there an id and its mailbox are in different slots.
-- KEYS of each: i h m g t l I. ARGV now channel self dead touch limit biglimit room
-- bigroom stretch, then of each: digest till ttl record exp topic except head athand
-- blob size all. exp: empty if the message is not stored; all: 1 for a message to all,
-- which every machine hears, and whose log has biglimit and bigroom.
-- It returns for each: its place, how many sessions other machines have, whether this
-- machine has some, and what was released, as text; or what is known of the id; or an
-- error.
local now, channel, self, dead, touch = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local limit, biglimit, room, bigroom = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

local claimed = false

local function publish(k, a)
  local h, m, exp, blob = KEYS[k + 1], KEYS[k + 2], ARGV[a + 4], ARGV[a + 9]
  local all = ARGV[a + 11] == '1'
  local s, seq, place = nil, 0, '0'
  if exp ~= '' then
    s = call('HMGET', h, 's', 'nx', 'mx', 'tr', 'b', 'ln')
    requireLife(s[6])
    seq, place = newest(s)
  end
  local old = remember(KEYS[k], now, ARGV[a], ARGV[a + 1], ARGV[a + 2], place, ARGV[a + 3], touch)
  if old then
    if old[1] == 'd' then old[5], old[6] = kept(h, m, old[2], now) end
    return old
  end
  claimed = true
  if s then
    append(s, seq, place, h, m, KEYS[k + 3], KEYS[k + 4], now, exp, all and biglimit or limit,
      all and bigroom or room, ARGV[a + 5], tonumber(ARGV[a + 10]), blob)
  end
  if all then
    call('PUBLISH', channel .. 'all', 'D' .. place .. ' ' .. ARGV[a + 7] .. MARK .. blob)
    return place .. ' 0 1' -- no message in the log of messages to all is shared
  end
  index(KEYS[k + 6], KEYS[k], ARGV[a + 2], ARGV[10])
  local elsewhere, here = spread(KEYS[k + 5], channel, self, ARGV[a + 6], dead, '0', place, ARGV[a + 7], blob, ARGV[a + 8])
  local answer = place .. ' ' .. elsewhere .. ' ' .. here
  if released[1] then answer = answer .. ' ' .. table.concat(released, ' ') end
  return answer
end

local out = {}
for n = 0, #KEYS / 7 - 1 do
  claimed, released = false, {}
  local ok, answer = pcall(publish, 7 * n + 1, 12 * n + 11)
  if not ok and claimed then call('DEL', KEYS[7 * n + 1]) end -- an id that is known would pass for stored
  if not ok and type(answer) ~= 'table' then answer = { err = tostring(answer) } end
  out[n + 1] = answer
end
return out
