-- The id of a message that does not fit one script: to several, or in a cluster.
-- KEYS i; ARGV now digest meta till
local now = tonumber(ARGV[1])
local k = known(KEYS[1], now, ARGV[2])
if k then return k end
remember(KEYS[1], now, ARGV[2], ARGV[3], ARGV[4])
return { 'n' }
