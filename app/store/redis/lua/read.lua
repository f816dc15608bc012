-- A stretch of a mailbox. KEYS h m g; ARGV after count bytes now. It returns what
-- lua/stretch.lua says.
local s = call('HMGET', KEYS[1], 's', 'tr', 'f', 'ln')
requireLife(s[4])
return stretch(KEYS[2], KEYS[3], s, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
