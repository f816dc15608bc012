-- Callbacks of a backend are not given up any more. KEYS D x Y; ARGV their members
local k = { KEYS[1], KEYS[2], KEYS[3] }
for _, member in ipairs(ARGV) do unbury(k, member) end
return 1
