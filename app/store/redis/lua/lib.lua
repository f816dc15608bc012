-- What several scripts share. The engine puts the constants of a life before it:
-- LIFE its name (empty for who has the store alone), BORN its number as text, MARK
-- both as members of an envelope (see record.go), CURRENT the key of the current
-- life's name, where that is in reach.
--
-- A mailbox is five keys under one hash tag:
--   h  its state: s the newest place, tr up to where it was trimmed, am and ab
--      what was acked, f the first place among messages to all, ls when its user
--      was last seen, nx a time before which nothing in it expires, mx a time
--      after which everything has, b the bytes of payload in m; lv where lives began
--      in it (see starts), ln the last of these; bn the life in which f and ab were
--      written, on a Cluster
--   m  its messages, a stream: the place is the id, x the expiry, d the message;
--      or, of one that several mailboxes share, instead of d: r its id, under which
--      the message is kept once, and n the payload's bytes and the mailbox's number
--      among those that share it
--   g  places that were taken out on purpose: first as member, last as score
--   t  the newest place of each topic, with its expiry
--   l  live sessions; a value begins with the machine's name, MACHINE characters
--   K  what the user's tokens say of their groups, by the token's fingerprint: a
--      version (1), until when, when it was issued, its id, and the groups, a line each
-- h also has ea, when the user was erased. Times are milliseconds of the callers'
-- clock, but for ls and ea: nanoseconds, of 19 digits.
local call = redis.call
if CURRENT and call('GET', CURRENT) ~= LIFE then return redis.error_reply('OTHERLIFE 0') end
local MACHINE = 12
local YEAR = 31536000000
local DAY = 86400000

local function int(n) return string.format('%.0f', n) end

-- lv is no:after,… of lives, oldest first: the mailbox stood at after when the first
-- message of the life no came into it. A full list says of its oldest lives that
-- they ended where the first of them did: too early is safe.
local STARTS = 64

-- over refuses a message of a life that ended in this mailbox already; ln is the
-- mailbox's. On a Cluster a machine may not know of a new life yet.
local function over(ln)
  if LIFE ~= '' and ln and tonumber(ln) > tonumber(BORN) then return redis.error_reply('OTHERLIFE ' .. ln) end
end

-- starts notes that this life's first message is about to come to place seq.
local function starts(h, seq)
  local list = call('HGET', h, 'lv')
  list = list and list .. ',' or ''
  local _, n = string.gsub(list, ':', '')
  if n >= STARTS then list = string.gsub(list, '^%d+:(%d+),(%d+):%d+', '%2:%1', 1) end
  call('HSET', h, 'ln', BORN, 'lv', list .. BORN .. ':' .. int(seq - 1))
end

-- ended is the last place of the life no, or one before it, in a mailbox.
local function ended(lv, no, head)
  for n, after in string.gmatch(lv or '', '(%d+):(%d+)') do
    if tonumber(n) > no then return math.min(tonumber(after), head) end
  end
  return head
end

-- stale tells whether a session's entry in l was written in an earlier life: who
-- wrote it has yet to say that the session is still there. (What older versions
-- write has no life.)
local function stale(v)
  return LIFE ~= '' and string.sub(v, -10, -9) == '\30\8' and string.sub(v, -8) ~= LIFE
end

-- tokenOf is the fingerprint of a session's token in a value of l, the first member
-- of what is kept there (see Engine.presence); '' where a version before had none.
local function tokenOf(v)
  if string.byte(v, MACHINE + 2) ~= 15 then return '' end
  return string.sub(v, MACHINE + 4, MACHINE + 3 + string.byte(v, MACHINE + 3))
end

-- newest is the place of the next message, as a number and as text.
local function newest(s)
  local seq = (tonumber(s[1]) or 0) + 1
  return seq, int(seq)
end

-- hole notes a place as taken out on purpose, and joins it with its neighbours.
local function hole(g, seq, ttl)
  local first, last = int(seq), int(seq)
  local left = call('ZRANGEBYSCORE', g, int(seq - 1), int(seq - 1))
  if left[1] then first = left[1] end
  local right = call('ZSCORE', g, int(seq + 1))
  if right then
    last = right
    call('ZREM', g, int(seq + 1))
  end
  call('ZADD', g, last, first)
  call('PEXPIRE', g, int(ttl))
end

-- released lists shared messages that a mailbox gave up before their time: the
-- number of the mailbox and the id. Whoever runs the script tells those ids' keys,
-- which may be on another server.
local released = {}

-- entries makes what is seldom needed of a mailbox's entries: it costs each run of
-- each script to make a function.
local function entries()
  local M = {}
  local EVENT = 8 -- the member of a message that holds its payload; see record.go

  -- sizeOf is how many bytes the payload of an entry of m has.
  function M.sizeOf(e)
    if e[2][3] == 'r' then return tonumber(string.match(e[2][6], '^%d+')) end
    local d, at = e[2][4], 2
    while at <= #d do
      local tag, n, unit, c = string.byte(d, at), 0, 1, nil
      repeat
        at = at + 1
        c = string.byte(d, at)
        n = n + c % 128 * unit
        unit = unit * 128
      until c < 128
      if tag == EVENT then return n end
      at = at + 1 + n
    end
    return 0
  end

  -- leave notes that an entry goes out of a mailbox, and returns its size.
  function M.leave(e)
    if e[2][3] == 'r' then released[#released + 1] = string.match(e[2][6], '%d+$') .. ' ' .. e[2][4] end
    return M.sizeOf(e)
  end

  -- sweep takes out what has expired. It returns a time before which nothing more
  -- does (nil where nothing is left), and the bytes that are left.
  function M.sweep(m, now)
    local at, next, bytes = '-', nil, 0
    while true do
      local page = call('XRANGE', m, at, '+', 'COUNT', 200)
      local gone = {}
      for _, e in ipairs(page) do
        local x = tonumber(e[2][2])
        if x <= now then
          gone[#gone + 1] = e[1]
        else
          if not next or x < next then next = x end
          bytes = bytes + M.sizeOf(e)
        end
        at = '(' .. e[1]
      end
      if #gone > 0 then call('XDEL', m, unpack(gone)) end
      if #page < 200 then return next, bytes end
    end
  end

  -- trim takes the oldest of n entries out until one more of size bytes fits. It
  -- returns up to where, and the bytes that are left.
  function M.trim(m, n, bytes, limit, room, size)
    local tr = nil
    while n > 0 and (n >= limit or bytes + size > room) do
      local some, gone = math.max(4, math.min(100, n + 1 - limit)), {}
      for _, e in ipairs(call('XRANGE', m, '-', '+', 'COUNT', some)) do
        if n < limit and bytes + size <= room then break end
        gone[#gone + 1] = e[1]
        n = n - 1
        bytes = bytes - M.leave(e)
        tr = tonumber(string.match(e[1], '^(%d+)'))
      end
      if #gone == 0 then return tr, 0 end
      call('XDEL', m, unpack(gone))
    end
    return tr, math.max(0, bytes)
  end

  -- replace takes the newest message of a topic out and returns its size: 0 where
  -- there is none that has neither expired nor been acked.
  function M.replace(h, m, g, t, now, mx, topic)
    local v = call('HGET', t, topic)
    if not v then return 0 end
    local ps, px = string.match(v, '^(%d+) (%d+)$')
    if tonumber(px) <= now or tonumber(ps) <= (tonumber(call('HGET', h, 'am')) or 0) then return 0 end
    local e = call('XRANGE', m, ps .. '-0', ps .. '-0')[1]
    if not e then return 0 end
    call('XDEL', m, e[1])
    hole(g, tonumber(ps), mx - now)
    return M.leave(e)
  end

  -- put adds the entry of a message of size bytes: with the message itself, or with the
  -- id by which it is shared and the mailbox's number.
  function M.put(m, place, exp, size, blob, shared)
    if shared then
      call('XADD', m, place .. '-0', 'x', exp, 'r', shared.id, 'n', size .. ' ' .. shared.number)
    else
      call('XADD', m, place .. '-0', 'x', exp, 'd', blob)
    end
  end

  return M
end

-- arrange does what has to be done around a message that is more than just one
-- more: it is of a topic, the mailbox may be full, or its time must be prolonged.
local function arrange(s, seq, place, h, m, g, t, now, exp, limit, room, topic, size, blob, shared)
  local M = entries()
  local x = tonumber(exp)
  local nx, mx, tr, bytes = tonumber(s[2]) or x, tonumber(s[3]), tonumber(s[4]) or 0, tonumber(s[5])
  nx = math.min(nx, x)
  local longer = not mx or x > mx
  if longer then mx = x + DAY end -- a day ahead, so that the keys' lives are prolonged once a day
  local function clean()
    local next
    next, bytes = M.sweep(m, now)
    nx = math.min(next or x, x)
  end
  if not s[1] then bytes = 0 end
  if not bytes then clean() end -- it was not counted yet
  if topic ~= '' then
    bytes = math.max(0, bytes - M.replace(h, m, g, t, now, mx, topic))
    call('HSET', t, topic, place .. ' ' .. exp)
    call('PEXPIRE', t, int(mx - now))
  end
  if seq - tr > limit or bytes + size > room then
    if nx <= now then clean() end
    local n = call('XLEN', m)
    local whole = n == seq - 1 - tr -- no place is missing, so that there are no holes to forget
    local to
    to, bytes = M.trim(m, n, bytes, limit, room, size)
    if to then
      tr = to
      if not whole then call('ZREMRANGEBYSCORE', g, '-inf', int(tr)) end
    end
  end
  M.put(m, place, exp, size, blob, shared)
  call('HSET', h, 's', place, 'nx', int(nx), 'mx', int(mx), 'tr', int(tr), 'b', int(bytes + size))
  if longer then
    call('PEXPIRE', m, int(mx - now))
    call('PEXPIRE', g, int(mx - now))
    call('PEXPIRE', h, int(mx - now + YEAR))
  end
end

-- append puts a message at the end of a mailbox, whose s, nx, mx, tr, b and ln are s,
-- at place seq. Times are of as many digits for a long time to come, and compared as
-- they are: this is where the time goes.
local function append(s, seq, place, h, m, g, t, now, exp, limit, room, topic, size, blob, shared)
  if LIFE ~= '' and s[6] ~= BORN then starts(h, seq) end
  local bytes = (tonumber(s[5]) or room) + size
  if topic ~= '' or not s[3] or exp < s[2] or exp > s[3] or seq - (tonumber(s[4]) or 0) > limit or bytes > room then
    return arrange(s, seq, place, h, m, g, t, now, exp, limit, room, topic, size, blob, shared)
  end
  if shared then
    entries().put(m, place, exp, size, blob, shared)
  else
    call('XADD', m, place .. '-0', 'x', exp, 'd', blob)
  end
  call('HSET', h, 's', place, 'b', bytes)
end

-- index notes that the id of a key i names a user, for whoever erases the user: on a
-- list of those that are forgotten in one stretch of time. ttl is the id's.
local function index(list, i, ttl, stretch)
  if call('RPUSH', list, i) == 1 then call('PEXPIRE', list, int(tonumber(ttl) + tonumber(stretch))) end
end

-- held tells whether a place still has its message, and whether it was acked.
local function held(h, m, seq, now)
  if not seq or seq == '' or seq == '0' then return 0, 0 end
  local there, acked = 0, 0
  local e = call('XRANGE', m, seq .. '-0', seq .. '-0')
  if e[1] and tonumber(e[1][2][2]) > now then there = 1 end
  if (tonumber(call('HGET', h, 'am')) or 0) >= tonumber(seq) then acked = 1 end
  return there, acked
end

-- spread publishes to each machine that holds sessions of the mailbox; this one,
-- where it has the message at hand, is only reminded of it. It returns how many
-- sessions other machines have (but for those excepted, those of machines that are
-- dead, and stale ones), and 1 where this machine has some. blob is the message, or
-- body the key that has it.
local function spread(l, channel, self, except, dead, cluster, place, head, blob, athand, body)
  local live = call('HGETALL', l)
  local there, elsewhere, here = {}, 0, 0
  for i = 1, #live, 2 do
    local machine = string.sub(live[i + 1], 1, MACHINE)
    if there[machine] == nil then
      if machine == self then here = 1 end
      if string.find(dead, machine, 1, true) then
        there[machine] = false
      elseif machine == self and athand == '1' then
        there[machine] = call('PUBLISH', channel .. machine, 'E' .. place .. ' ' .. head .. MARK)
      else
        if not blob then blob = call('GET', body) end
        if not blob then break end -- it was recalled
        -- in a cluster the answer counts only those who listen at this node
        there[machine] = call('PUBLISH', channel .. machine, 'D' .. place .. ' ' .. head .. MARK .. blob) > 0 or cluster == '1'
      end
    end
    if there[machine] and machine ~= self and not stale(live[i + 1]) and not string.find(except, ' ' .. live[i] .. ' ', 1, true) then
      elsewhere = elsewhere + 1
    end
  end
  return elsewhere, here
end

-- What an id is remembered by is one string: the digest (32 bytes), until when
-- (13 digits), when it was recalled (19 digits, or zeros), the place in the one
-- mailbox where that is known here, a space, and the record.
local DIGEST, UNTIL, RECALLED = 32, 45, 64
local NEVER = '0000000000000000000'

-- remember claims an id and returns nil, or what was remembered already: a
-- conflict ('c'), or the message ('d', its place, its record, when it was
-- recalled). With touch it writes all the same, so that whoever waits for
-- replicas waits for the first writing, too.
local function remember(i, now, digest, till, ttl, place, record, touch)
  local v = digest .. till .. NEVER .. place .. ' ' .. record
  local old = call('SET', i, v, 'NX', 'GET', 'PX', ttl)
  if not old then return nil end
  if tonumber(string.sub(old, DIGEST + 1, UNTIL)) <= now then -- too long ago
    call('SET', i, v, 'PX', ttl)
    return nil
  end
  if string.sub(old, 1, DIGEST) ~= digest then return { 'c' } end
  if touch == '1' then call('SETRANGE', i, 0, digest) end
  local recalled = string.sub(old, UNTIL + 1, RECALLED)
  if recalled == NEVER then recalled = '' end
  local at = string.find(old, ' ', RECALLED + 1, true)
  return { 'd', string.sub(old, RECALLED + 1, at - 1), string.sub(old, at + 1), recalled }
end
