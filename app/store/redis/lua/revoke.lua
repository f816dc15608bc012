-- A revocation, for good; sessions are told in the same step. KEYS R l K;
-- ARGV channel self payload kind value user. It returns the tokens whose word is
-- taken back, each with what it said. kind is 'b' (a time) or 'j' (a token's id). A field of 'n'
-- and the user's name says whose it is, to whoever carries the store elsewhere.
call('HSET', KEYS[1], 'n' .. ARGV[6], '')
if ARGV[4] == 'b' then
  if (tonumber(call('HGET', KEYS[1], 'b')) or 0) < tonumber(ARGV[5]) then call('HSET', KEYS[1], 'b', ARGV[5]) end
else
  call('HSET', KEYS[1], 'j' .. ARGV[5], '1')
end
local told = { [ARGV[2]] = true }
call('PUBLISH', ARGV[1] .. ARGV[2], ARGV[3])
for _, v in ipairs(call('HVALS', KEYS[2])) do
  local machine = string.sub(v, 1, MACHINE)
  if not told[machine] then
    told[machine] = true
    call('PUBLISH', ARGV[1] .. machine, ARGV[3])
  end
end
local back = {}
local all = call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  local issued, id = string.match(all[i + 1], '^1\n%d+\n(%d+)\n([^\n]*)')
  if not issued or ARGV[4] == 'j' and id == ARGV[5] or ARGV[4] == 'b' and tonumber(issued) < tonumber(ARGV[5]) then
    call('HDEL', KEYS[3], all[i])
    back[#back + 1], back[#back + 2] = all[i], all[i + 1]
  end
end
return back
