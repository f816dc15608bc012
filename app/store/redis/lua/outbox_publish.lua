-- What comes after publish.lua; see outbox_before.lua.
local answers = main()
for _, c in ipairs(timed) do
  local one = answers[(c.h - 2) / 7 + 1]
  local place = type(one) == 'string' and string.match(one, '^%d+')
  if place and place ~= '0' then time(c, KEYS[c.h + 2], place) end
end
return answers
