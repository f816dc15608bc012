-- The id of a message that does not fit one script is claimed: it goes to several, or
-- the store is a Cluster. KEYS i and, if the mailboxes are to share the message, the
-- keys of the message and of who holds it; ARGV now digest record till ttl touch, and
-- for these two keys: the message, a bit for each mailbox, their ttl.
-- For an id that is known the answer says whether the message is there to be shared.
local known = remember(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[4], ARGV[5], '', ARGV[3], ARGV[6])
if known then
  if known[1] == 'd' and KEYS[2] then known[5] = call('EXISTS', KEYS[2]) end
  return known
end
if KEYS[2] then
  call('SET', KEYS[2], ARGV[7], 'PX', ARGV[9])
  call('SET', KEYS[3], ARGV[8], 'PX', ARGV[9])
end
return { 'n' }
