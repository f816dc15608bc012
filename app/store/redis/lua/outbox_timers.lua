-- Timers of a user that are due are leased to the caller; void ones go. KEYS h g w W; ARGV
-- how many at most, how long, now, the caller's own time. It returns when the next is due,
-- until when these are leased, and of each its name and what it is about.
local SLACK = 1000 -- two machines' clocks may differ by so much
local h, g, w, W = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, most, own = clock(ARGV[3]), tonumber(ARGV[1]), tonumber(ARGV[4])
local till = string.format('%.1f', now + tonumber(ARGV[2]) - 0.5)
local out = { '', till }

-- early returns how long it is until a message's timer is due by the caller's clock: that of
-- Redis may be ahead, as where another server has become the primary.
local function early(name, v)
  if string.sub(name, 1, 1) == 'o' then return 0 end
  return tonumber(string.sub(v, 4, 16)) - own -- see encodeTimer
end

for _, name in ipairs(call('ZRANGEBYSCORE', w, '-inf', int(now), 'LIMIT', 0, 500)) do
  local v = call('HGET', W, name)
  if not v or void(h, g, name) then
    dropTimer(w, W, name)
  elseif early(name, v) > SLACK then
    call('ZADD', w, int(now + early(name, v)), name)
  elseif #out < 2 + 2 * most then
    call('ZADD', w, till, name)
    out[#out + 1], out[#out + 2] = name, v
  end
end
-- Void ones that come next need no visit of their own.
for _, name in ipairs(call('ZRANGE', w, 0, 20)) do
  if void(h, g, name) then dropTimer(w, W, name) else break end
end
out[1] = first(w)
return out
