-- Something of a user is due at a time. KEYS the indexes; ARGV tag, and when (empty: now),
-- now
for _, z in ipairs(KEYS) do hint(z, ARGV[1], tonumber(ARGV[2]) or clock(ARGV[3])) end
return 1
