-- A user is forgotten but for the newest place, so that places go on from there.
-- KEYS h l and all other keys that go; ARGV channel self notice now (nanoseconds)
local s = call('HMGET', KEYS[1], 's', 'ln', 'lv')
rare().notify(KEYS[2], ARGV[1], ARGV[2], ARGV[3])
call('DEL', unpack(KEYS))
-- What sessions that began before are about to write comes too late.
call('HSET', KEYS[1], 'ea', ARGV[4])
call('PEXPIRE', KEYS[1], int(DAY))
if s[2] then call('HSET', KEYS[1], 'ln', s[2], 'lv', s[3]) end
if s[1] then
  call('HSET', KEYS[1], 's', s[1], 'tr', s[1], 'am', s[1])
  call('PEXPIRE', KEYS[1], int(YEAR))
end
return 1
