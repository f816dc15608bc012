-- What the scripts of the outbox share. It follows lib.lua in them; outbox.go tells the
-- whole. In a user's slot are, of each backend,
--   o  callbacks by when each is due; one that is leased is due when its lease ends. One
--      that may be hurried is due half a millisecond before its time
--   q  ids of callbacks that are sent in order, by their numbers; only the first one of
--      them is due, whatever o has
--   b  callbacks that wait, by id (see outboxcodec.go)
--   d  callbacks that were given up, by id
--   s  ids of callbacks sent in order that the backend has taken, by when that was
-- and of all backends
--   w  timers by when each is due. A name is 'u' (unacked) or 'x' (expired) and the place,
--      or 'o' (offline). 'U' and 'X' are those of a message that was acked after its end:
--      it was not acked. One that is leased is due half a millisecond before its lease ends,
--      so that nobody else's time is the same
--   W  what a timer is about, by the same name
-- In the slot of all callbacks are t, an index of w, and of each backend
--   z  an index of o: a tag of users' keys, and when something of theirs may be due
--   h  tags of users who may have something that is to be hurried. A tag's score is another
--      one each time that something is added
--   a  what waits, by when it was caused: three keys, of user.*, event.* and
--      message.sent. A member is the id, the tag and the size
--   y  the bytes that wait, and ym those of message.sent among them
--   D  what was given up, by id: a member is the id, the tag and the size (which those of
--      older versions do not have)
--   x  the same members by when that was
--   Y  the bytes that were given up
-- A score in an index is a time in milliseconds, and its fraction says something: .25 that
-- somebody has written to the user's slot, or is about to, since the score was set; .5
-- that there was nothing in the slot the last time.
local O = rare()
local GRACE = 60000 -- longer than anybody takes from writing into an index to writing into the slot

-- clock returns the time in milliseconds: Redis' own, unless the caller gives one, which
-- only tests do.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  return O.clock()
end

-- hint has an index know that something of a tag is due at a time, at the latest.
local function hint(z, tag, at)
  local s = call('ZSCORE', z, tag)
  if not s then
    call('ZADD', z, int(at), tag)
    call('PEXPIRE', z, int(YEAR))
    return
  end
  s = tonumber(s)
  if s > at or s % 1 == 0.5 then
    call('ZADD', z, int(at), tag)
  elseif s % 1 ~= 0.25 then
    call('ZADD', z, string.format('%.2f', math.floor(s) - 0.75), tag)
  end
end

-- idle has an index know that there was nothing in a tag's slot, for now.
local function idle(z, tag, now) call('ZADD', z, string.format('%.1f', now + GRACE + 0.5), tag) end

-- first returns the score of a sorted set's first member as text; '' without one.
local function first(key) return call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or '' end

local CLASS = { u = 1, e = 2, m = 3 } -- user.*, event.*, message.sent

local function sizeIn(member) return tonumber(string.match(member, '%d+$')) end

-- toHurry has h know of something that is to be hurried.
local function toHurry(h, tag, now)
  local s = tonumber(call('ZSCORE', h, tag) or nil)
  call('ZADD', h, int(s and s + 1 or now), tag)
  call('PEXPIRE', h, int(YEAR))
end

-- weigh adds bytes to a key that counts them.
local function weigh(key, bytes)
  call('SET', key, int(math.max(0, (tonumber(call('GET', key)) or 0) + bytes)), 'PX', int(YEAR))
end

-- unlist takes a callback out of a (k: its three keys, y and ym).
local function unlist(k, i, member)
  if call('ZREM', k[i], member) == 0 then return end
  weigh(k[4], -sizeIn(member))
  if i == CLASS.m then weigh(k[5], -sizeIn(member)) end
end

-- bury adds what was given up to D x Y (k) as of a time, and unbury takes it out.
local function sizeOfDead(member) return tonumber(string.match(member, '^%S+ %S+ (%d+)$')) or 0 end

local function bury(k, member, at)
  if call('ZADD', k[1], 0, member) == 1 then weigh(k[3], sizeOfDead(member)) end
  call('ZADD', k[2], at, member)
  call('PEXPIRE', k[1], int(YEAR))
  call('PEXPIRE', k[2], int(YEAR))
end

local function unbury(k, member)
  if call('ZREM', k[1], member) == 1 then weigh(k[3], -sizeOfDead(member)) end
  call('ZREM', k[2], member)
end

-- admit puts a callback into a, and takes the oldest out of it until it has room: 1, or 0
-- if it is there already, or -1 if there is no room for it. What it takes out is added to
-- evicted, after the backend's number j.
local function admit(k, c, limits, j, evicted)
  local i, size = CLASS[c.class], sizeIn(c.member)
  if call('ZSCORE', k[i], c.member) then return 0 end
  if i == CLASS.m and (call('ZCOUNT', k[3], '-inf', '+inf') >= limits.most or (tonumber(call('GET', k[5])) or 0) + size > limits.room) then
    return -1 -- not even if all others went
  end
  local n = 0
  for all = 1, 3 do n = n + call('ZCOUNT', k[all], '-inf', '+inf') end
  local bytes = tonumber(call('GET', k[4])) or 0
  while n > 0 and (n >= limits.most or bytes + size > limits.room) do
    if limits.modest then return -1 end
    local from, oldest = 1, call('ZRANGE', k[1], 0, 0)[1]
    if not oldest and i > 1 then from, oldest = 2, call('ZRANGE', k[2], 0, 0)[1] end
    if not oldest then return -1 end
    unlist(k, from, oldest)
    evicted[#evicted + 1] = j .. ' ' .. from .. ' ' .. oldest
    n, bytes = n - 1, bytes - sizeIn(oldest)
  end
  call('ZADD', k[i], c.at, c.member)
  call('PEXPIRE', k[i], int(YEAR))
  call('SET', k[4], int(bytes + size), 'PX', int(YEAR))
  if i == CLASS.m then weigh(k[5], size) end
  return 1
end

-- head makes the first callback in order due. One behind it that is due is passed over by
-- outbox_lease.lua; one that is leased keeps its lease.
local function head(k, now)
  while true do
    local id = call('ZRANGE', k[2], 0, 0)[1]
    if not id then return end
    if call('HEXISTS', k[3], id) == 1 then
      if not call('ZSCORE', k[1], id) then call('ZADD', k[1], int(now), id) end
      return
    end
    call('ZREM', k[2], id)
  end
end

-- number is where a callback has its number among those in order; see outboxcodec.go.
local NUMBER, DIGITS = 24, 16

-- known tells whether a callback is in its user's slot (k: o q b d s), or its backend has
-- taken it; late tells whether it must not be stored any more.
local function known(k, c)
  return call('HEXISTS', k[3], c.id) == 1 or call('HEXISTS', k[4], c.id) == 1 or c.class == 'm' and call('ZSCORE', k[5], c.id)
end

local function late(c, now) return c.till and c.till <= now end

-- store puts a callback into its user's slot (k: o q b d s): 1, or 0 if it is known.
local function store(k, c, now)
  if known(k, c) then return 0 end
  local v, number = c.value, nil
  if c.class == 'm' then
    number = string.sub(v, NUMBER, NUMBER + DIGITS - 1)
    if tonumber(number) == 0 then -- it is new: the last one
      local last = call('ZREVRANGE', k[2], 0, 0, 'WITHSCORES')[2]
      number = string.format('%016.0f', math.max(now * 1000, (tonumber(last) or 0) + 1))
      v = string.sub(v, 1, NUMBER - 1) .. number .. string.sub(v, NUMBER + DIGITS)
    end
  end
  call('HSET', k[3], c.id, v)
  call('PEXPIRE', k[3], int(YEAR))
  if number then
    call('ZADD', k[2], number, c.id)
    call('PEXPIRE', k[2], int(YEAR))
    head(k, now)
  else
    call('ZADD', k[1], int(now), c.id)
  end
  call('PEXPIRE', k[1], int(YEAR))
  return 1
end

-- Callbacks come at the end of KEYS and ARGV. KEYS: of each backend o q b d s, unless
-- slot is 0; then of each backend z, the three of a, y and ym, unless index is 0. ARGV:
-- of each callback the backend's number, tag, id, class, value, at, size and until when it
-- may be stored (or empty); then 1 if others may not make room, now most room slot index,
-- and how many backends and callbacks there are. now is empty but in tests.
local function callbacks()
  local n = #ARGV
  local backends, count = tonumber(ARGV[n - 1]), tonumber(ARGV[n])
  local p = { now = clock(ARGV[n - 6]), list = {}, slot = {}, index = {},
    limits = { most = tonumber(ARGV[n - 5]), room = tonumber(ARGV[n - 4]), modest = ARGV[n - 7] == '1' } }
  local hasSlot, hasIndex = ARGV[n - 3] == '1', ARGV[n - 2] == '1'
  local k = #KEYS - (hasSlot and 5 * backends or 0) - (hasIndex and 6 * backends or 0)
  for j = 1, hasSlot and backends or 0 do
    p.slot[j] = { KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], KEYS[k + 5] }
    k = k + 5
  end
  for j = 1, hasIndex and backends or 0 do
    p.index[j] = { z = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], KEYS[k + 5], KEYS[k + 6] }
    k = k + 6
  end
  local a = n - 8 - 8 * count
  for i = 1, count do
    local tag, id = ARGV[a + 2], ARGV[a + 3]
    p.list[i] = { j = tonumber(ARGV[a + 1]), tag = tag, id = id, class = ARGV[a + 4], value = ARGV[a + 5], at = ARGV[a + 6],
      member = id .. ' ' .. tag .. ' ' .. ARGV[a + 7], till = tonumber(ARGV[a + 8]) }
    a = a + 8
  end
  return p
end

-- admitAll admits callbacks, or none if one in order has no room. One that will not be stored
-- needs none, as far as the script can see that. It returns what admit returned for each, and
-- what was taken out.
local function admitAll(p)
  local states, evicted = {}, {}
  for i, c in ipairs(p.list) do
    if p.slot[c.j] and (late(c, p.now) or known(p.slot[c.j], c)) then
      states[i] = 0
    else
      states[i] = admit(p.index[c.j], c, p.limits, c.j, evicted)
    end
    if states[i] == -1 and c.class == 'm' then
      for before = 1, i - 1 do
        local b = p.list[before]
        if states[before] == 1 then unlist(p.index[b.j], CLASS[b.class], b.member) end
      end
      return nil, evicted
    end
  end
  return states, evicted
end

-- storeAll puts callbacks where they belong, as far as the script can reach it. It
-- returns 'ok' (or 'full': nothing was stored), what became of each (1 stored, 0 there
-- already, -1 no room, -2 too late), and what was taken out for them.
local function storeAll(p)
  local states, evicted = {}, {}
  if p.index[1] then
    states, evicted = admitAll(p)
    if not states then return { 'full', {}, evicted } end
  end
  for i, c in ipairs(p.list) do
    local admitted = states[i]
    if admitted ~= -1 then
      if late(c, p.now) then states[i] = -2 else states[i] = store(p.slot[c.j], c, p.now) end
      if p.index[1] then
        if states[i] == 1 then
          hint(p.index[c.j].z, c.tag, p.now)
        elseif admitted == 1 then
          unlist(p.index[c.j], CLASS[c.class], c.member)
        end
      end
    end
  end
  return { 'ok', states, evicted }
end

-- addTimer adds a timer.
local function addTimer(w, W, name, due, value, now)
  call('ZADD', w, due, name)
  call('HSET', W, name, value)
  local ttl = tonumber(due) - now + YEAR
  O.prolong(w, ttl)
  O.prolong(W, ttl)
end

local function dropTimer(w, W, name)
  call('ZREM', w, name)
  call('HDEL', W, name)
end

-- void reports whether a timer has no reason any more: its message was acked, recalled or
-- replaced. many: also where a full mailbox has lost it. (Its expiry was taken out then,
-- unless it had expired before; and it escalates, as long as there are not too many.)
local function void(h, g, name, many)
  local kind, place = string.sub(name, 1, 1), tonumber(string.sub(name, 2))
  if kind == 'o' then return false end
  local s = call('HMGET', h, 'am', 'tr')
  if (kind == 'u' or kind == 'x') and place <= (tonumber(s[1]) or 0) then return true end
  if many and place <= (tonumber(s[2]) or 0) then return true end
  local range = call('ZRANGEBYSCORE', g, int(place), '+inf', 'LIMIT', 0, 1)[1]
  return range and tonumber(range) <= place
end

-- dropTimers takes out the timers of a message.
local function dropTimers(w, W, place)
  for _, kind in ipairs({ 'u', 'U', 'x', 'X' }) do dropTimer(w, W, kind .. place) end
end

-- passOver precedes an ack of the places after from, up to to. Timers of the user (k: w W m)
-- whose messages have come to their end before are kept, as 'U' and 'X': the ack does not make
-- them void. lease is how long a lease is, and ahead by how much Redis' clock is ahead of those
-- by which messages expire.
local function passOver(k, from, to, now, lease, ahead)
  local function gone(place)
    local e = call('XRANGE', k[3], int(place) .. '-0', int(place) .. '-0')[1]
    return not e or tonumber(e[2][2]) + ahead <= now
  end
  for name, due in O.fields(call('ZRANGEBYSCORE', k[1], '-inf', int(now + lease), 'WITHSCORES')) do
    local kind, place = string.sub(name, 1, 1), tonumber(string.sub(name, 2))
    if (kind == 'x' or kind == 'u') and place > from and place <= to then
      local v = call('HGET', k[2], name)
      if v and tonumber(string.sub(v, 4, 16)) + ahead <= now and (kind == 'x' or gone(place)) then -- see encodeTimer
        dropTimer(k[1], k[2], name)
        addTimer(k[1], k[2], string.upper(name), due, v, now)
      end
    end
  end
end
