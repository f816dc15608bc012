-- How many messages after a place have not expired. KEYS m; ARGV after now
local R = rare()
local now, n = tonumber(ARGV[2]), 0
for e in R.entries(KEYS[1], '(' .. ARGV[1] .. '-0') do
  if R.expiryOf(e) > now then n = n + 1 end
end
return n
