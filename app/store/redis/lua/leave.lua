-- A session is gone; its trail stays. KEYS h l T; ARGV session now trail keep ttl
if call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
if (tonumber(call('HGET', KEYS[1], 'ls')) or 0) < tonumber(ARGV[2]) then call('HSET', KEYS[1], 'ls', ARGV[2]) end
if ARGV[3] ~= '' then
  call('LPUSH', KEYS[3], ARGV[3])
  call('LTRIM', KEYS[3], 0, tonumber(ARGV[4]) - 1)
  call('PEXPIRE', KEYS[3], ARGV[5])
end
return 1
