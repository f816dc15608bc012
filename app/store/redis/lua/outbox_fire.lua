-- A timer ends, and its callbacks are stored unless it is void. KEYS h g w W and callbacks
-- (see outbox_lib.lua); ARGV the timer's name, until when it is leased, and callbacks.
-- It returns 'void' if nothing was stored.
local name = ARGV[1]
local leased = call('ZSCORE', KEYS[3], name)
if not leased then -- acked since, after its end
  name = string.upper(name)
  leased = call('ZSCORE', KEYS[3], name)
end
if not leased or tonumber(leased) ~= tonumber(ARGV[2]) then return { 'void' } end
dropTimer(KEYS[3], KEYS[4], name)
if void(KEYS[1], KEYS[2], name) then return { 'void' } end
return storeAll(callbacks())
