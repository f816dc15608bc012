-- A callback of an export that was given up. KEYS D x Y; ARGV its member and when that was
bury({ KEYS[1], KEYS[2], KEYS[3] }, ARGV[1], ARGV[2])
return 1
