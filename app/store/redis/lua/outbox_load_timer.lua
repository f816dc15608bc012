-- A timer of an export comes into its user's slot. KEYS h w W; ARGV kind place due value now
local kind, place = ARGV[1], tonumber(ARGV[2])
if kind ~= 'o' and place <= (tonumber(call('HGET', KEYS[1], 'am')) or 0) then kind = string.upper(kind) end
addTimer(KEYS[2], KEYS[3], kind == 'o' and kind or kind .. int(place), ARGV[3], ARGV[4], clock(ARGV[5]))
return 1
