-- A value is replaced unless it has changed meanwhile (0). KEYS the key; ARGV old new
if call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
