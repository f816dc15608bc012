-- An id is marked as recalled, once. KEYS i; ARGV when, in 19 digits
if call('GETRANGE', KEYS[1], UNTIL, RECALLED - 1) == NEVER then call('SETRANGE', KEYS[1], UNTIL, ARGV[1]) end
return 1
