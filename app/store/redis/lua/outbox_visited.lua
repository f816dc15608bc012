-- Slots were visited. KEYS z (or t); ARGV now, then of each: tag, until when it was the
-- caller's to visit, when the next is due there (or empty), and 1 if the slot was empty the
-- time before. What others have written since the visit began stays.
local now = clock(ARGV[1])
for i = 2, #ARGV, 4 do
  local tag, due = ARGV[i], tonumber(ARGV[i + 2])
  local s = tonumber(call('ZSCORE', KEYS[1], tag) or nil)
  if s == tonumber(ARGV[i + 1]) then
    if due then
      call('ZADD', KEYS[1], int(due), tag)
    elseif ARGV[i + 3] == '1' then
      call('ZREM', KEYS[1], tag)
    else
      idle(KEYS[1], tag, now)
    end
  elseif due and s and s > due then
    call('ZADD', KEYS[1], int(due), tag)
  end
end
return 1
