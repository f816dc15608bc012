-- Callbacks of a backend do not wait any more. KEYS the three of a, y ym; ARGV of each its
-- class and member
local k = { KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5] }
for i = 1, #ARGV, 2 do unlist(k, CLASS[ARGV[i]], ARGV[i + 1]) end
return 1
