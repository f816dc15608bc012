-- Which indexes have something that is due. KEYS the indexes; ARGV now
local now, out = int(clock(ARGV[1])), {}
for i, z in ipairs(KEYS) do
  if call('ZRANGEBYSCORE', z, '-inf', now, 'LIMIT', 0, 1)[1] then out[#out + 1] = i end
end
return out
