-- Timers of messages that publish.lua or deliver.lua, whose text comes next, is about to
-- store. They stand at the end of KEYS and ARGV, where that script does not look for them.
-- KEYS: of each message w W; then t, unless index is 0. ARGV: of each message the index of
-- its h in KEYS, its tag, when nobody acked it in time (or empty) and what that timer is
-- about, when it expires (or empty) and that timer; then now most index, and how
-- many messages there are.
local timed = {}
do
  local n = tonumber(table.remove(ARGV))
  local indexed = table.remove(ARGV) == '1'
  timed.most, timed.now = tonumber(table.remove(ARGV)), tonumber(table.remove(ARGV))
  if indexed then timed.t = table.remove(KEYS) end
  for i = n, 1, -1 do
    local c = { W = table.remove(KEYS), w = table.remove(KEYS) }
    c.x, c.xDue, c.u, c.uDue, c.tag = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
    c.h = tonumber(table.remove(ARGV))
    timed[i], timed[KEYS[c.h]] = c, c
  end
end

-- See lib.lua.
function onReplace(h, place)
  local c = timed[h]
  if not c then return end
  dropTimers(c.w, c.W, place)
end

-- See lib.lua. What is lost does not expire; it escalates.
function onTrim(h, place)
  local c = timed[h]
  if c then dropTimer(c.w, c.W, 'x' .. place) end
end

-- time adds the timers of a message at a place.
local function time(c, g, place)
  local due
  if c.uDue ~= '' then
    addTimer(c.w, c.W, 'u' .. place, c.uDue, c.u, timed.now)
    due = tonumber(c.uDue)
  end
  if c.xDue ~= '' then
    addTimer(c.w, c.W, 'x' .. place, c.xDue, c.x, timed.now)
    due = math.min(due or tonumber(c.xDue), tonumber(c.xDue))
  end
  if not due then return end
  if timed.t then hint(timed.t, c.tag, due) end
  -- A mailbox's limit bounds the timers that are not void then.
  if call('ZCOUNT', c.w, '-inf', '+inf') > timed.most then
    for _, name in ipairs(call('ZRANGE', c.w, 0, -1)) do
      if void(KEYS[c.h], g, name, true) then dropTimer(c.w, c.W, name) end
    end
  end
end
