-- What several scripts share. Go puts a header before this file (see lives.go) that
-- sets LIFE, the name of the store's current life (empty for an export or import,
-- which has the store to itself), BORN, that life's number as text, MARK, both
-- encoded as members of an envelope (see codec.go), and CURRENT, the key that holds
-- the current life's name (nil where the script cannot reach that key).
--
-- A mailbox is five keys under one hash tag:
--   h  its state. s: the newest place; tr: the place up to which it was trimmed;
--      am, ab: the acked places, in the mailbox and among messages to all; f: the
--      user's first place among messages to all; ls: when the user was last seen;
--      nx: no message expires before this time; mx: all have expired after this
--      time; b: the bytes of payload in m; lv: the places at which lives began (see
--      noteLife); ln: the newest of those lives; bn: on a Cluster, the life in which
--      f and ab were written; ea: when the user was erased
--   m  its messages, a stream. An entry's id is the message's place, x its expiry
--      and d the encoded message. A message that several mailboxes share has no d:
--      r is the id under which the message is kept once, n the payload's bytes and
--      the mailbox's number among those that share it
--   g  places whose messages were removed on purpose, as ranges: the first is the member, the
--      last the score
--   t  of each topic, the place and expiry of its newest message
--   l  live sessions. A value begins with the machine's name, MACHINE characters
--   K  the groups that the user's tokens name, by the token's fingerprint: a version
--      (1), until when, when the token was issued, its id, and the groups, a line each
-- Times are milliseconds of the callers' clock; ls and ea are nanoseconds, 19 digits.
local call = redis.call
if CURRENT and call('GET', CURRENT) ~= LIFE then return redis.error_reply('OTHERLIFE 0') end
local MACHINE = 12
local YEAR = 31536000000
local DAY = 86400000

local function int(n) return string.format('%.0f', n) end

-- requireLife ends the script with an error if a newer life than this one is noted in
-- the mailbox, whose ln is given: on a Cluster a machine may not know of it yet.
local function requireLife(ln)
  if LIFE ~= '' and ln and tonumber(ln) > tonumber(BORN) then error(redis.error_reply('OTHERLIFE ' .. ln)) end
end

-- stale reports whether a session's entry in l was written in an earlier life. The
-- session counts again when its machine has written the entry anew. (Versions
-- before lives wrote entries of no life; these count.)
local function stale(v)
  return LIFE ~= '' and string.sub(v, -10, -9) == '\30\8' and string.sub(v, -8) ~= LIFE
end

-- newest returns the place of the next message, as a number and as text.
local function newest(s)
  local seq = (tonumber(s[1]) or 0) + 1
  return seq, int(seq)
end

-- put adds the entry of a message of size bytes to m: with the message itself, or with
-- the id by which it is shared and the mailbox's number.
local function put(m, place, exp, size, blob, shared)
  if shared then
    call('XADD', m, place .. '-0', 'x', exp, 'r', shared.id, 'n', size .. ' ' .. shared.number)
  else
    call('XADD', m, place .. '-0', 'x', exp, 'd', blob)
  end
end

-- released lists the shared messages that a mailbox gave up before they expired: the
-- mailbox's number and the message's id. The caller releases these ids' keys, which may be
-- on another server.
local released = {}

-- Redis runs a script's text from the top each time, and making a function costs time.
-- Functions that few runs need are therefore made by entries and rare, when they are
-- needed.

-- Where outbox_before.lua has set them, onReplace hears of a place that a newer message of
-- the same topic emptied, and onTrim of one that the full mailbox has lost.
local onReplace
local onTrim

-- entries returns the functions for the entries of a mailbox's m.
local entriesMade
local function entries()
  if entriesMade then return entriesMade end
  local PAGE = 200
  local EVENT = 8 -- the tag of a message's payload; see codec.go

  -- addRemoved notes that a message was removed on purpose from a place, for as long as
  -- the mailbox is known, and joins the place with the ranges beside it.
  local function addRemoved(g, seq, now, mx)
    local first, last = int(seq), int(seq)
    local left = call('ZRANGEBYSCORE', g, int(seq - 1), int(seq - 1))
    if left[1] then first = left[1] end
    local right = call('ZSCORE', g, int(seq + 1))
    if right then
      last = right
      call('ZREM', g, int(seq + 1))
    end
    call('ZADD', g, last, first)
    call('PEXPIRE', g, int(mx - now + YEAR))
  end

  -- entry returns the entry of m at a place, if it is there.
  local function entry(m, place) return call('XRANGE', m, place .. '-0', place .. '-0')[1] end

  -- each iterates over the entries of m from an id on, page by page.
  local function each(m, from)
    local page, i = nil, 0
    return function()
      i = i + 1
      if not page or i > #page and #page == PAGE then
        if page then from = '(' .. page[PAGE][1] end
        page, i = call('XRANGE', m, from, '+', 'COUNT', PAGE), 1
      end
      return page[i]
    end
  end

  -- delete takes entries out of m. (unpack takes some thousands at most.)
  local function delete(m, ids)
    for i = 1, #ids, PAGE do call('XDEL', m, unpack(ids, i, math.min(#ids, i + PAGE - 1))) end
  end

  local function placeOf(e) return tonumber(string.match(e[1], '^(%d+)')) end
  local function expiryOf(e) return tonumber(e[2][2]) end
  local function isShared(e) return e[2][3] == 'r' end

  -- sizeOf returns the bytes of an entry's payload.
  local function sizeOf(e)
    if isShared(e) then return tonumber(string.match(e[2][6], '^%d+')) end
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

  -- giveUp notes that an entry leaves the mailbox before it expires, and returns its size.
  local function giveUp(e)
    if isShared(e) then released[#released + 1] = string.match(e[2][6], '%d+$') .. ' ' .. e[2][4] end
    return sizeOf(e)
  end

  -- sweep deletes what has expired, and forgets what was removed before the last of that:
  -- a reader who comes by is told of a gap in any case. It returns a time before which
  -- nothing else expires (nil if nothing is left), and the bytes that are left.
  local function sweep(m, g, now)
    local gone, next, bytes, last = {}, nil, 0, nil
    for e in each(m, '-') do
      local x = expiryOf(e)
      if x <= now then
        gone[#gone + 1] = e[1]
        last = placeOf(e)
      else
        next = math.min(next or x, x)
        bytes = bytes + sizeOf(e)
      end
    end
    delete(m, gone)
    if last then call('ZREMRANGEBYSCORE', g, '-inf', int(last)) end
    return next, bytes
  end

  -- trim deletes the oldest of n entries until one more of size bytes fits. It
  -- returns the last place that it deleted (nil for none), and the bytes that are left.
  local function trim(h, m, n, bytes, limit, room, size)
    local tr = nil
    while n > 0 and (n >= limit or bytes + size > room) do
      local some, gone = math.max(4, math.min(100, n + 1 - limit)), {}
      for _, e in ipairs(call('XRANGE', m, '-', '+', 'COUNT', some)) do
        if n < limit and bytes + size <= room then break end
        gone[#gone + 1] = e[1]
        n = n - 1
        bytes = bytes - giveUp(e)
        tr = placeOf(e)
        if onTrim then onTrim(h, int(tr)) end
      end
      if #gone == 0 then return tr, 0 end
      delete(m, gone)
    end
    return tr, math.max(0, bytes)
  end

  -- replace deletes the newest message of a topic and returns its size: 0 if there is
  -- none that has neither expired nor been acked.
  local function replace(h, m, g, t, now, mx, topic)
    local v = call('HGET', t, topic)
    if not v then return 0 end
    local place, x = string.match(v, '^(%d+) (%d+)$')
    if tonumber(x) <= now or tonumber(place) <= (tonumber(call('HGET', h, 'am')) or 0) then return 0 end
    local e = entry(m, place)
    if not e then return 0 end
    delete(m, { e[1] })
    addRemoved(g, tonumber(place), now, mx)
    if onReplace then onReplace(h, place) end
    return giveUp(e)
  end

  -- appendRarely is append (below) for a message that needs more than being added: it has a
  -- topic, the mailbox may be full, or the mailbox's keys must live longer.
  local function appendRarely(s, seq, place, h, m, g, t, now, exp, limit, room, topic, size, blob, shared)
    local x = tonumber(exp)
    local nx, mx, tr, bytes = tonumber(s[2]) or x, tonumber(s[3]), tonumber(s[4]) or 0, tonumber(s[5])
    nx = math.min(nx, x)
    local longer = not mx or x > mx
    if longer then mx = x + DAY end -- a day ahead, so that this is done once a day
    local function clean()
      local next
      next, bytes = sweep(m, g, now)
      nx = math.min(next or x, x)
    end
    if not s[1] then bytes = 0 end
    if not bytes then clean() end -- it was not counted yet
    if topic ~= '' then
      bytes = math.max(0, bytes - replace(h, m, g, t, now, mx, topic))
      call('HSET', t, topic, place .. ' ' .. exp)
      call('PEXPIRE', t, int(mx - now))
    end
    if seq - tr > limit or bytes + size > room then
      if nx <= now then clean() end
      local n = call('XLEN', m)
      local whole = n == seq - 1 - tr -- no place is missing, so that none was removed on purpose
      local to
      to, bytes = trim(h, m, n, bytes, limit, room, size)
      if to then
        tr = to
        if not whole then call('ZREMRANGEBYSCORE', g, '-inf', int(tr)) end
      end
    end
    put(m, place, exp, size, blob, shared)
    call('HSET', h, 's', place, 'nx', int(nx), 'mx', int(mx), 'tr', int(tr), 'b', int(bytes + size))
    if longer then
      call('PEXPIRE', m, int(mx - now))
      call('PEXPIRE', g, int(mx - now + YEAR))
      call('PEXPIRE', h, int(mx - now + YEAR))
    end
  end

  entriesMade = {
    addRemoved = addRemoved, entry = entry, each = each, delete = delete, placeOf = placeOf, expiryOf = expiryOf, sizeOf = sizeOf,
    append = appendRarely,
  }
  return entriesMade
end

-- rare returns functions for all other purposes.
local rareMade
local function rare()
  if rareMade then return rareMade end
  local M = {}
  rareMade = M

  -- clock returns the time of Redis' own clock, milliseconds.
  function M.clock()
    local t = call('TIME')
    return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end

  -- fields iterates over a list of names and values, such as HGETALL's reply.
  function M.fields(list)
    local i = -1
    return function()
      i = i + 2
      return list[i], list[i + 1]
    end
  end

  -- prolong makes a key live for ttl at least.
  function M.prolong(key, ttl)
    if call('PTTL', key) < ttl then call('PEXPIRE', key, int(ttl)) end
  end

  -- raise sets a hash's field to a value unless it has a greater one.
  function M.raise(key, field, value)
    if (tonumber(call('HGET', key, field)) or 0) < tonumber(value) then call('HSET', key, field, value) end
  end

  -- notify publishes a notice to this machine (self) and to each machine that holds
  -- sessions in l, once.
  function M.notify(l, channel, self, notice)
    local told = { [self] = true }
    call('PUBLISH', channel .. self, notice)
    for _, v in ipairs(call('HVALS', l)) do
      local machine = string.sub(v, 1, MACHINE)
      if not told[machine] then
        told[machine] = true
        call('PUBLISH', channel .. machine, notice)
      end
    end
  end

  -- A mailbox keeps in lv where lives began in it, oldest first, as no:after,…: the
  -- newest place was after when the life's first message came. Of the lives that a
  -- full list has no room for it says that they ended where the oldest that is left
  -- did: too early, which is safe.
  local LIVES = 64

  -- noteLife notes that this life's first message is about to come to place seq.
  function M.noteLife(h, seq)
    local list = call('HGET', h, 'lv')
    list = list and list .. ',' or ''
    local _, n = string.gsub(list, ':', '')
    if n >= LIVES then list = string.gsub(list, '^%d+:(%d+),(%d+):%d+', '%2:%1', 1) end
    call('HSET', h, 'ln', BORN, 'lv', list .. BORN .. ':' .. int(seq - 1))
  end

  -- lifeEnd returns the last place of the life no in a mailbox, or an earlier one.
  function M.lifeEnd(lv, no, head)
    for n, after in string.gmatch(lv or '', '(%d+):(%d+)') do
      if tonumber(n) > no then return math.min(tonumber(after), head) end
    end
    return head
  end

  return M
end

-- kept returns 1 if a mailbox has not lost the message at a place: it is there, or was
-- recalled or replaced; and 1 if it was acked. One that has expired may pass for recalled
-- once its entry is gone: whoever asks knows when it ended.
local function kept(h, m, place, now)
  if not place or place == '' or place == '0' then return 0, 0 end
  local s = call('HMGET', h, 'am', 'tr', 's')
  local e, n = entries().entry(m, place), tonumber(place)
  local lost
  if e then
    lost = entries().expiryOf(e) <= now
  else
    lost = n <= (tonumber(s[2]) or 0) or n > (tonumber(s[3]) or 0)
  end
  return lost and 0 or 1, (tonumber(s[1]) or 0) >= n and 1 or 0
end

-- append adds a message to a mailbox, whose s, nx, mx, tr, b and ln are s, at place
-- seq. Most of a publish's time goes here. Times are compared as text: for a long time to
-- come they have the same number of digits.
local function append(s, seq, place, h, m, g, t, now, exp, limit, room, topic, size, blob, shared)
  if LIFE ~= '' and s[6] ~= BORN then rare().noteLife(h, seq) end
  local bytes = (tonumber(s[5]) or room) + size
  if topic ~= '' or not s[3] or exp < s[2] or exp > s[3] or seq - (tonumber(s[4]) or 0) > limit or bytes > room then
    return entries().append(s, seq, place, h, m, g, t, now, exp, limit, room, topic, size, blob, shared)
  end
  put(m, place, exp, size, blob, shared)
  call('HSET', h, 's', place, 'b', bytes)
end

-- index puts the key i of an id on a list of the user whom the id names, which an erasure
-- of the user reads. A list has the ids that are forgotten in one stretch of time;
-- ttl is how long the id is remembered.
local function index(list, i, ttl, stretch)
  if call('RPUSH', list, i) == 1 then call('PEXPIRE', list, int(tonumber(ttl) + tonumber(stretch))) end
end

-- spread publishes a message to each machine that holds sessions of the mailbox. This
-- machine (self) gets a reminder without the message if it has the message at hand. blob is
-- the message, or body the key that holds it. It returns how many sessions other
-- machines have, without the excepted ones, those of dead machines and stale ones,
-- and 1 if this machine has sessions.
local function spread(l, channel, self, except, dead, cluster, place, head, blob, athand, body)
  local live = call('HGETALL', l)
  local reached, elsewhere, here = {}, 0, 0
  for i = 1, #live, 2 do
    local machine = string.sub(live[i + 1], 1, MACHINE)
    if reached[machine] == nil then
      if machine == self then here = 1 end
      if string.find(dead, machine, 1, true) then
        reached[machine] = false
      elseif machine == self and athand == '1' then
        reached[machine] = call('PUBLISH', channel .. machine, 'E' .. place .. ' ' .. head .. MARK)
      else
        if not blob then blob = call('GET', body) end
        if not blob then break end -- it was recalled
        -- A Cluster's node counts only those who listen at that node.
        reached[machine] = call('PUBLISH', channel .. machine, 'D' .. place .. ' ' .. head .. MARK .. blob) > 0 or cluster == '1'
      end
    end
    if reached[machine] and machine ~= self and not stale(live[i + 1]) and not string.find(except, ' ' .. live[i] .. ' ', 1, true) then
      elsewhere = elsewhere + 1
    end
  end
  return elsewhere, here
end

-- What is known of an id is one string: the digest (32 bytes), until when it is
-- remembered (13 digits), when it was recalled (19 digits, or zeros), the place in the
-- message's one mailbox where the script knows it, a space, and the record.
local DIGEST, UNTIL, RECALLED = 32, 45, 64
local NEVER = '0000000000000000000'

-- remember claims an id and returns nil, or what is known of it already: a conflict
-- ('c'), or the message ('d', its place, its record, when it was recalled). With touch
-- it writes in any case, so that a caller who waits for replicas waits for the first
-- write, too.
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
