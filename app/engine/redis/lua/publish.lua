-- One message to one user or to all, in one go. Not for a cluster: the id and
-- the mailbox are of different slots there.
-- KEYS i h m g t l; ARGV now digest meta till exp limit topic blob channel self
-- except head dead all. exp is empty where nothing is stored; all is 1 for a
-- message to all, which every machine hears.
local now = tonumber(ARGV[1])
local k = known(KEYS[1], now, ARGV[2])
if k then
  if k[1] == 'd' then k[5], k[6] = held(KEYS[2], KEYS[3], k[2], now) end
  return k
end
local seq = '0'
if ARGV[5] ~= '' then
  seq = append(KEYS[2], KEYS[3], KEYS[4], KEYS[5], now, ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8])
end
remember(KEYS[1], now, ARGV[2], ARGV[3], ARGV[4], seq)
local payload = 'D' .. seq .. ' ' .. ARGV[12] .. ARGV[8]
if ARGV[14] == '1' then
  redis.call('PUBLISH', ARGV[9] .. 'all', payload)
  return { 'n', seq, 0, 1 }
end
local elsewhere, here = spread(KEYS[6], ARGV[9], ARGV[10], ARGV[11], ARGV[13], '0', payload)
return { 'n', seq, elsewhere, here }
