-- Which messages after a place have not expired, as ranges. KEYS m; ARGV after now
-- It returns the places: first, last, ….
local E = entries()
local now, ranges, last = tonumber(ARGV[2]), {}, nil
for e in E.each(KEYS[1], '(' .. ARGV[1] .. '-0') do
  if E.expiryOf(e) > now then
    local place = E.placeOf(e)
    -- A range begins where the place before is not pending; its end moves on with each.
    if place - 1 ~= last then ranges[#ranges + 1] = int(place) end
    ranges[#ranges + #ranges % 2], last = int(place), place
  end
end
return ranges
