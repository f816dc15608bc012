-- Whether a callback is known. KEYS o q b d s; ARGV id, class. It returns 1 or 0.
return known(KEYS, { id = ARGV[1], class = ARGV[2] }) and 1 or 0
