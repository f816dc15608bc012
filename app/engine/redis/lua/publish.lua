-- One message to one user or to all, in one go. Not for a cluster: the id and
-- the mailbox are of different slots there.
-- KEYS i h m g t l; ARGV now digest record till ttl touch exp limit topic blob
-- channel self except head dead all athand. exp is empty where nothing is stored;
-- all is 1 for a message to all, which every machine hears.
local now, exp = tonumber(ARGV[1]), ARGV[7]
local s, seq, place = nil, 0, '0'
if exp ~= '' then
  s = call('HMGET', KEYS[2], 's', 'nx', 'mx', 'tr')
  seq, place = newest(s)
end
local k = remember(KEYS[1], now, ARGV[2], ARGV[4], ARGV[5], place, ARGV[3], ARGV[6])
if k then
  if k[1] == 'd' then k[5], k[6] = held(KEYS[2], KEYS[3], k[2], now) end
  return k
end
if s then append(s, seq, place, KEYS[2], KEYS[3], KEYS[4], KEYS[5], now, exp, tonumber(ARGV[8]), ARGV[9], ARGV[10]) end
if ARGV[16] == '1' then
  call('PUBLISH', ARGV[11] .. 'all', 'D' .. place .. ' ' .. ARGV[14] .. ARGV[10])
  return { 'n', place, 0, 1 }
end
local elsewhere, here = spread(KEYS[6], ARGV[11], ARGV[12], ARGV[13], ARGV[15], '0', place, ARGV[14], ARGV[10], ARGV[17])
return { 'n', place, elsewhere, here }
