-- A user is forgotten but for the newest place, so that sequences go on.
-- KEYS h l and all others that go; ARGV channel self payload now (nanoseconds)
local s = call('HMGET', KEYS[1], 's', 'ln', 'lv')
local head = s[1]
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
-- What sessions that began before are about to write comes too late.
call('HSET', KEYS[1], 'ea', ARGV[4])
call('PEXPIRE', KEYS[1], int(DAY))
if s[2] then call('HSET', KEYS[1], 'ln', s[2], 'lv', s[3]) end
if head then
  call('HSET', KEYS[1], 's', head, 'tr', head, 'am', head)
  call('PEXPIRE', KEYS[1], int(YEAR))
end
return 1
