-- Which messages after a place have not expired. KEYS m; ARGV after now
-- It returns their places (first, last, …).
local now, at, runs, last = tonumber(ARGV[2]), '(' .. ARGV[1] .. '-0', {}, nil
while true do
  local page = call('XRANGE', KEYS[1], at, '+', 'COUNT', 200)
  for _, e in ipairs(page) do
    if tonumber(e[2][2]) > now then
      local place = string.match(e[1], '^%d+')
      if last ~= place - 1 then
        runs[#runs + 1], runs[#runs + 2] = place, place
      else
        runs[#runs] = place
      end
      last = tonumber(place)
    end
    at = '(' .. e[1]
  end
  if #page < 200 then return runs end
end
