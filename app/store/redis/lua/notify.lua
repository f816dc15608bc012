-- A notice goes to this machine and to each one that holds sessions of a user.
-- KEYS l; ARGV channel self notice
rare().notify(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
return 1
