-- A notice to this machine and to each that holds sessions of a user.
-- KEYS l; ARGV channel self payload
local told = { [ARGV[2]] = true }
call('PUBLISH', ARGV[1] .. ARGV[2], ARGV[3])
for _, v in ipairs(call('HVALS', KEYS[1])) do
  local machine = string.sub(v, 1, MACHINE)
  if not told[machine] then
    told[machine] = true
    call('PUBLISH', ARGV[1] .. machine, ARGV[3])
  end
end
return 1
