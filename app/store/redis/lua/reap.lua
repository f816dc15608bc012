-- The sessions of a machine whose lease lapsed long ago become those of a dead machine,
-- and the caller may take them out, alone for a while: 1, or 0 if it may not. KEYS the
-- leases, the machine's sessions, those of it as a dead one, a lock; ARGV the machine,
-- a time, the lock's ttl. A lease that lapsed before that time lapsed long ago.
local lease = call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) >= tonumber(ARGV[2]) then return 0 end
if not call('SET', KEYS[4], '1', 'NX', 'PX', ARGV[3]) then return 0 end
if call('EXISTS', KEYS[3]) == 0 and call('EXISTS', KEYS[2]) == 1 then call('RENAME', KEYS[2], KEYS[3]) end
return 1
