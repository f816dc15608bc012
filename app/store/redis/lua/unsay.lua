-- A group is taken out of all that a user's tokens have said. KEYS K; ARGV group
-- It returns the tokens that had named it.
local struck = {}
local all = call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local head, groups = string.match(all[i + 1], '^(1\n%d+\n%d+\n[^\n]*)(.*)$')
  local left, there = '', false
  for g in string.gmatch(groups or '', '\n([^\n]+)') do
    if g == ARGV[1] then there = true else left = left .. '\n' .. g end
  end
  if there then
    call('HSET', KEYS[1], all[i], head .. left)
    struck[#struck + 1] = all[i]
  end
end
return struck
