-- A user has something for a backend that is to be hurried. KEYS h; ARGV tag, now
toHurry(KEYS[1], ARGV[1], clock(ARGV[2]))
return 1
