-- Timers of a message that is taken out. KEYS w W; ARGV the place
dropTimers(KEYS[1], KEYS[2], ARGV[1])
return 1
