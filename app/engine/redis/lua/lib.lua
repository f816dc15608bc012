-- What several scripts share. A mailbox is five keys under one hash tag:
--   h  its state: s the newest place, tr up to where it was trimmed, am and ab
--      what was acked, f the first place among messages to all, ls when its user
--      was last seen, nx a time before which nothing in it expires, mx a time
--      after which everything has
--   m  its messages, a stream: the place is the id, x the expiry, d the message
--   g  places that were taken out on purpose: first as member, last as score
--   t  the newest place of each topic, with its expiry
--   l  live sessions; a value begins with the machine's name, MACHINE characters
-- Times are milliseconds of the callers' clock, but for ls: nanoseconds.
local MACHINE = 12
local YEAR = 31536000000
local DAY = 86400000

local function int(n) return string.format('%.0f', n) end

-- hole notes a place as taken out on purpose, and joins it with its neighbours.
local function hole(g, seq, ttl)
  local first, last = int(seq), int(seq)
  local left = redis.call('ZRANGEBYSCORE', g, int(seq - 1), int(seq - 1))
  if left[1] then first = left[1] end
  local right = redis.call('ZSCORE', g, int(seq + 1))
  if right then
    last = right
    redis.call('ZREM', g, int(seq + 1))
  end
  redis.call('ZADD', g, last, first)
  redis.call('PEXPIRE', g, int(ttl))
end

-- sweep takes out what has expired and returns a time before which nothing more does.
local function sweep(m, now)
  local at, next = '-', nil
  while true do
    local page = redis.call('XRANGE', m, at, '+', 'COUNT', 200)
    local gone = {}
    for _, e in ipairs(page) do
      local x = tonumber(e[2][2])
      if x <= now then gone[#gone + 1] = e[1]
      elseif not next or x < next then next = x end
      at = '(' .. e[1]
    end
    if #gone > 0 then redis.call('XDEL', m, unpack(gone)) end
    if #page < 200 then return next end
  end
end

-- append puts a message at the end of a mailbox and returns its place.
local function append(h, m, g, t, now, exp, limit, topic, blob)
  local s = redis.call('HMGET', h, 's', 'nx', 'mx', 'am')
  local seq = (tonumber(s[1]) or 0) + 1
  local x = tonumber(exp)
  local nx, mx = tonumber(s[2]), tonumber(s[3])
  if not nx or x < nx then nx = x end
  local longer = not mx or x > mx
  if longer then mx = x + DAY end -- a day ahead, so that the keys' lives are prolonged once a day
  if topic ~= '' then
    local v = redis.call('HGET', t, topic)
    if v then
      local ps, px = string.match(v, '^(%d+) (%d+)$')
      if tonumber(px) > now and tonumber(ps) > (tonumber(s[4]) or 0) and redis.call('XDEL', m, ps .. '-0') == 1 then
        hole(g, tonumber(ps), mx - now)
      end
    end
    redis.call('HSET', t, topic, int(seq) .. ' ' .. exp)
    redis.call('PEXPIRE', t, int(mx - now))
  end
  redis.call('XADD', m, int(seq) .. '-0', 'x', exp, 'd', blob)
  if longer then
    redis.call('PEXPIRE', m, int(mx - now))
    redis.call('PEXPIRE', h, int(mx - now + YEAR))
  end
  local set = { 's', int(seq), 'mx', int(mx) }
  if redis.call('XLEN', m) > limit then
    if nx <= now then nx = sweep(m, now) or x end
    local over = redis.call('XLEN', m) - limit
    if over > 0 then
      local page = redis.call('XRANGE', m, '-', '+', 'COUNT', over)
      local tr = string.match(page[#page][1], '^(%d+)')
      redis.call('XTRIM', m, 'MAXLEN', '=', limit)
      redis.call('ZREMRANGEBYSCORE', g, '-inf', tr)
      set[5], set[6] = 'tr', tr
    end
  end
  redis.call('HSET', h, 'nx', int(nx), unpack(set))
  return int(seq)
end

-- held tells whether a place still has its message, and whether it was acked.
local function held(h, m, seq, now)
  if not seq or seq == '' or seq == '0' then return 0, 0 end
  local there, acked = 0, 0
  local e = redis.call('XRANGE', m, seq .. '-0', seq .. '-0')
  if e[1] and tonumber(e[1][2][2]) > now then there = 1 end
  if (tonumber(redis.call('HGET', h, 'am')) or 0) >= tonumber(seq) then acked = 1 end
  return there, acked
end

-- spread publishes to each machine that holds sessions of the mailbox. It returns
-- how many sessions other machines have (but for those excepted, and those of
-- machines that are dead), and 1 where this machine has some.
local function spread(l, channel, self, except, dead, cluster, payload)
  local live = redis.call('HGETALL', l)
  local there, elsewhere, here = {}, 0, 0
  for i = 1, #live, 2 do
    local machine = string.sub(live[i + 1], 1, MACHINE)
    if there[machine] == nil then
      if machine == self then here = 1 end
      if string.find(dead, machine, 1, true) then
        there[machine] = false
      else -- in a cluster the answer counts only those who listen at this node
        there[machine] = redis.call('PUBLISH', channel .. machine, payload) > 0 or cluster == '1'
      end
    end
    if there[machine] and machine ~= self and not string.find(except, ' ' .. live[i] .. ' ', 1, true) then
      elsewhere = elsewhere + 1
    end
  end
  return elsewhere, here
end

-- known tells what is remembered of an id: nothing, a conflict ('c') or the
-- message ('d', its place, its record, when it was recalled).
local function known(i, now, digest)
  local r = redis.call('HMGET', i, 'd', 'u', 's', 'm', 'r')
  if not r[1] or tonumber(r[2]) <= now then return nil end
  if r[1] ~= digest then return { 'c' } end
  return { 'd', r[3] or '', r[4], r[5] or '' }
end

local function remember(i, now, digest, meta, till, seq)
  redis.call('DEL', i) -- what was remembered too long ago
  redis.call('HSET', i, 'd', digest, 'u', till, 'm', meta)
  if seq then redis.call('HSET', i, 's', seq) end
  redis.call('PEXPIRE', i, int(tonumber(till) - now))
end
