-- Which life the store lives: the current one if it is bound to all the primaries
-- given, or else a new one, which is then bound to these. This script runs in no life.
-- KEYS current lives primaries epoch format; ARGV name own least epoch format keep, then
-- the primaries' replication ids. A new life gets the name, and a number greater than
-- own (the caller's life) and not less than least; epoch and format are for a store that
-- has none. It returns: the life's name and number, the epoch, and 1 if it is new.
local own, least = tonumber(ARGV[2]), tonumber(ARGV[3])
local name, begun = call('GET', KEYS[1]), '0'
local no = name and call('ZSCORE', KEYS[2], name)
local bound = no and tonumber(no) >= least
if bound then
  for i = 7, #ARGV do
    if call('SISMEMBER', KEYS[3], ARGV[i]) == 0 then bound = false end
  end
end
if not bound then
  begun = '1'
  local top = call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  no = math.max(rare().clock(), own + 1, least, top[2] and tonumber(top[2]) + 1 or 0)
  name = ARGV[1]
  call('ZADD', KEYS[2], int(no), name)
  call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[6]) - 1)
  call('SET', KEYS[1], name)
  call('DEL', KEYS[3])
  for i = 7, #ARGV do call('SADD', KEYS[3], ARGV[i]) end
end
if call('EXISTS', KEYS[4]) == 0 then call('SET', KEYS[4], ARGV[4]) end
if call('EXISTS', KEYS[5]) == 0 then call('SET', KEYS[5], ARGV[5]) end
return { name, int(tonumber(no)), call('GET', KEYS[4]), begun }
