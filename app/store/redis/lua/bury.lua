-- The sessions of a machine whose lease lapsed long ago become those of a dead one,
-- which whoever runs this takes out, alone for a while. KEYS z, its sessions, those of
-- the dead, a lock; ARGV machine, until when it may have lived, the lock's time
local alive = call('ZSCORE', KEYS[1], ARGV[1])
if not alive or tonumber(alive) >= tonumber(ARGV[2]) then return 0 end
if not call('SET', KEYS[4], '1', 'NX', 'PX', ARGV[3]) then return 0 end
if call('EXISTS', KEYS[3]) == 0 and call('EXISTS', KEYS[2]) == 1 then call('RENAME', KEYS[2], KEYS[3]) end
return 1
