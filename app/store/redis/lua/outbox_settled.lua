-- Leases of a backend's callbacks ended. KEYS z, the three of a, y; ARGV now, then of
-- each: tag, when the next of that user is due (or empty), and the class and member in
-- a of the callback if it does not wait any more (or empty).
local now, k = clock(ARGV[1]), { KEYS[2], KEYS[3], KEYS[4], KEYS[5] }
for i = 2, #ARGV, 4 do
  local tag, due = ARGV[i], tonumber(ARGV[i + 1])
  if ARGV[i + 2] ~= '' then unlist(k, CLASS[ARGV[i + 2]], ARGV[i + 3]) end
  if due then
    hint(KEYS[1], tag, due)
  else
    local s = tonumber(call('ZSCORE', KEYS[1], tag) or nil)
    if s and s > now and s % 1 == 0 then idle(KEYS[1], tag, now) end
  end
end
return 1
