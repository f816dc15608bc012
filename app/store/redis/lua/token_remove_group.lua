-- A group is taken out of those that a user's tokens name. KEYS K; ARGV group
-- It returns the tokens that named it.
local removed = {}
for token, entry in rare().fields(call('HGETALL', KEYS[1])) do
  local head, groups = string.match(entry, '^(1\n%d+\n%d+\n[^\n]*)(.*)$')
  local left, named = '', false
  for g in string.gmatch(groups or '', '\n([^\n]+)') do
    if g == ARGV[1] then named = true else left = left .. '\n' .. g end
  end
  if named then
    call('HSET', KEYS[1], token, head .. left)
    removed[#removed + 1] = token
  end
end
return removed
