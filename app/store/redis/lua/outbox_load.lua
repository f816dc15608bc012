-- A callback of an export comes into its user's slot. KEYS o q b d s; ARGV id class value due
-- (or empty), 1 if it was given up, now
local k, now = { KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5] }, clock(ARGV[6])
if ARGV[5] == '1' then
  if call('HEXISTS', k[3], ARGV[1]) == 1 then return 0 end
  call('HSET', k[4], ARGV[1], ARGV[3])
  call('PEXPIRE', k[4], int(YEAR)) -- what is too old goes sooner
  return 1
end
if store(k, { id = ARGV[1], class = ARGV[2], value = ARGV[3] }, now) == 0 then return 0 end
if ARGV[4] ~= '' and call('ZSCORE', k[1], ARGV[1]) then call('ZADD', k[1], ARGV[4], ARGV[1]) end
return 1
