-- A user is forgotten but for the newest place, so that sequences go on.
-- KEYS h l and all others that go; ARGV channel self payload now. That it was, and
-- when, stays: whoever could not hear of it finds it there.
local s = call('HMGET', KEYS[1], 's', 'ln', 'lv')
local head, known = s[1] or '0', call('EXISTS', KEYS[1])
local told = { [ARGV[2]] = true }
call('PUBLISH', ARGV[1] .. ARGV[2], ARGV[3])
for _, v in ipairs(call('HVALS', KEYS[2])) do
  local machine = string.sub(v, 1, MACHINE)
  if not told[machine] then
    told[machine] = true
    call('PUBLISH', ARGV[1] .. machine, ARGV[3])
  end
end
call('DEL', unpack(KEYS))
if known == 1 then
  call('HSET', KEYS[1], 's', head, 'tr', head, 'am', head, 'er', ARGV[4])
  if s[2] then call('HSET', KEYS[1], 'ln', s[2], 'lv', s[3]) end
  call('PEXPIRE', KEYS[1], int(YEAR))
end
return 1
