-- How many machines' leases have not lapsed. KEYS z
local t = call('TIME')
return call('ZCOUNT', KEYS[1], '(' .. int(tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)), '+inf')
