-- How many messages after a place have not expired. KEYS m; ARGV after now
local now, n, at = tonumber(ARGV[2]), 0, '(' .. ARGV[1] .. '-0'
while true do
  local page = call('XRANGE', KEYS[1], at, '+', 'COUNT', 200)
  for _, e in ipairs(page) do
    if tonumber(e[2][2]) > now then n = n + 1 end
    at = '(' .. e[1]
  end
  if #page < 200 then return n end
end
