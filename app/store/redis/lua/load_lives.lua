-- Lives that the exported store lived are added to the list of lives, oldest first,
-- each once. KEYS lives; ARGV their names
local top = call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local no = top[2] and tonumber(top[2]) or 0
for _, name in ipairs(ARGV) do
  if not call('ZSCORE', KEYS[1], name) then
    no = no + 1
    call('ZADD', KEYS[1], int(no), name)
  end
end
return 1
