-- A mailbox has given up a message that it shared; the last one that does so deletes
-- the message. KEYS the message, who holds it; ARGV the mailbox's number
if call('EXISTS', KEYS[2]) == 0 then return 0 end
call('SETBIT', KEYS[2], ARGV[1], 0)
if call('BITCOUNT', KEYS[2]) == 0 then call('DEL', KEYS[1], KEYS[2]) end
return 1
