-- A user's timers that are not void, for an export. KEYS h g W. It returns of each its name
-- and what it is about.
local out = {}
for name, v in O.fields(call('HGETALL', KEYS[3])) do
  if not void(KEYS[1], KEYS[2], name) then out[#out + 1], out[#out + 2] = name, v end
end
return out
