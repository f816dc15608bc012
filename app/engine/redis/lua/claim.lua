-- The id of a message that does not fit one script: to several, or in a cluster.
-- KEYS i; ARGV now digest record till ttl touch
return remember(KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[4], ARGV[5], '', ARGV[3], ARGV[6]) or { 'n' }
