-- A message whose id is claimed goes into one mailbox, once.
-- KEYS k h m g t l, where k remembers that it did; ARGV now ttl touch exp limit
-- topic blob channel self except head dead all cluster only. only is 1 where
-- nothing new is to be stored any more.
local now, exp = tonumber(ARGV[1]), ARGV[4]
local known = call('GET', KEYS[1])
if known or ARGV[15] == '1' then
  known = known or '0'
  if ARGV[3] == '1' and known ~= '0' then call('SET', KEYS[1], known, 'KEEPTTL') end -- see remember
  local there, acked = held(KEYS[2], KEYS[3], known, now)
  return { 'd', known, there, acked }
end
local place = '0'
if exp ~= '' then
  local s = call('HMGET', KEYS[2], 's', 'nx', 'mx', 'tr', 'ln')
  local refused = over(s[5])
  if refused then return refused end
  local seq
  seq, place = newest(s)
  append(s, seq, place, KEYS[2], KEYS[3], KEYS[4], KEYS[5], now, exp, tonumber(ARGV[5]), ARGV[6], ARGV[7])
end
call('SET', KEYS[1], place, 'PX', ARGV[2])
if ARGV[13] == '1' then
  call('PUBLISH', ARGV[8] .. 'all', 'D' .. place .. ' ' .. ARGV[11] .. MARK .. ARGV[7])
  return { 'n', place, 0, 1 }
end
local elsewhere, here = spread(KEYS[6], ARGV[8], ARGV[9], ARGV[10], ARGV[12], ARGV[14], place, ARGV[11], ARGV[7], '0')
return { 'n', place, elsewhere, here }
