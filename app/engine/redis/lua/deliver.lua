-- A message whose id is claimed goes into one mailbox, once.
-- KEYS k h m g t l, where k remembers that it did; ARGV now till exp limit topic
-- blob channel self except head dead all cluster only. only is 1 where nothing
-- new is to be stored any more.
local now = tonumber(ARGV[1])
local seq = redis.call('GET', KEYS[1])
if seq or ARGV[14] == '1' then
  seq = seq or '0'
  local there, acked = held(KEYS[2], KEYS[3], seq, now)
  return { 'd', seq, there, acked }
end
seq = '0'
if ARGV[3] ~= '' then
  seq = append(KEYS[2], KEYS[3], KEYS[4], KEYS[5], now, ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6])
end
redis.call('SET', KEYS[1], seq, 'PX', int(tonumber(ARGV[2]) - now))
local payload = 'D' .. seq .. ' ' .. ARGV[10] .. ARGV[6]
if ARGV[12] == '1' then
  redis.call('PUBLISH', ARGV[7] .. 'all', payload)
  return { 'n', seq, 0, 1 }
end
local elsewhere, here = spread(KEYS[6], ARGV[7], ARGV[8], ARGV[9], ARGV[11], ARGV[13], payload)
return { 'n', seq, elsewhere, here }
