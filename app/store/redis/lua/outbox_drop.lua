-- Callbacks make room. KEYS o q b; ARGV ids
local k = { KEYS[1], KEYS[2], KEYS[3] }
for _, id in ipairs(ARGV) do
  call('HDEL', KEYS[3], id)
  call('ZREM', KEYS[1], id)
end
return 1
