-- Leases of a backend's callbacks ended. KEYS z h, the three of a, y ym; ARGV now, then of
-- each: tag, when the next of that user is due (or empty), the class and member in a of the
-- callback if it does not wait any more (or empty), and 1 if it may be hurried.
local now, k = clock(ARGV[1]), { KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7] }
for i = 2, #ARGV, 5 do
  local tag, due = ARGV[i], tonumber(ARGV[i + 1])
  if ARGV[i + 2] ~= '' then unlist(k, CLASS[ARGV[i + 2]], ARGV[i + 3]) end
  if ARGV[i + 4] == '1' then
    toHurry(KEYS[2], tag, now)
  end
  if due then
    hint(KEYS[1], tag, due)
  else
    local s = tonumber(call('ZSCORE', KEYS[1], tag) or nil)
    if s and s > now and s % 1 == 0 then idle(KEYS[1], tag, now) end
  end
end
return 1
