-- A session is gone; its delivery log stays. KEYS h l T; ARGV the session, now
-- (nanoseconds), the log (empty for none), how many logs are kept, their ttl
if call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
rare().raise(KEYS[1], 'ls', ARGV[2])
if ARGV[3] ~= '' then
  call('LPUSH', KEYS[3], ARGV[3])
  call('LTRIM', KEYS[3], 0, tonumber(ARGV[4]) - 1)
  call('PEXPIRE', KEYS[3], ARGV[5])
end
return 1
