-- A revocation is kept for good, and sessions are told in the same step. KEYS R l K;
-- ARGV channel self notice kind value user. kind is 'b' (value is a time before which
-- tokens were issued) or 'j' (value is a token's id). R's field 'n' and the user's name
-- says whose it is, for an export. It returns the tokens that name no groups any more, each
-- with the entry that it had in K.
local R = rare()
local kind, value = ARGV[4], ARGV[5]
call('HSET', KEYS[1], 'n' .. ARGV[6], '')
if kind == 'b' then
  R.raise(KEYS[1], 'b', value)
else
  call('HSET', KEYS[1], 'j' .. value, '1')
end
R.notify(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
local removed = {}
for token, entry in R.fields(call('HGETALL', KEYS[3])) do
  local issued, id = string.match(entry, '^1\n%d+\n(%d+)\n([^\n]*)')
  if not issued or kind == 'j' and id == value or kind == 'b' and tonumber(issued) < tonumber(value) then
    call('HDEL', KEYS[3], token)
    removed[#removed + 1], removed[#removed + 2] = token, entry
  end
end
return removed
