-- A user becomes a member of a group, unless it is full (0). KEYS s; ARGV user limit
if call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 1 end
if call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
call('SADD', KEYS[1], ARGV[1])
return 1
