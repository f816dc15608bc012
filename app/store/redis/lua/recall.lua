-- A message is taken out of one mailbox, and its sessions are told.
-- KEYS h m g l; ARGV now seq channel self payload all
local now, seq = tonumber(ARGV[1]), ARGV[2]
if seq ~= '0' then
  local e = call('XRANGE', KEYS[2], seq .. '-0', seq .. '-0')
  if e[1] then
    call('XDEL', KEYS[2], e[1][1])
    local bytes = tonumber(call('HGET', KEYS[1], 'b'))
    if bytes then call('HSET', KEYS[1], 'b', int(math.max(0, bytes - entries().sizeOf(e[1])))) end
    if tonumber(e[1][2][2]) > now then -- what has expired is lost, recalled or not
      hole(KEYS[3], tonumber(seq), (tonumber(call('HGET', KEYS[1], 'mx')) or now + DAY) - now)
    end
  end
end
if ARGV[6] == '1' then
  call('PUBLISH', ARGV[3] .. 'all', ARGV[5])
  return 1
end
local told = { [ARGV[4]] = true }
call('PUBLISH', ARGV[3] .. ARGV[4], ARGV[5])
for _, v in ipairs(call('HVALS', KEYS[4])) do
  local machine = string.sub(v, 1, MACHINE)
  if not told[machine] then
    told[machine] = true
    call('PUBLISH', ARGV[3] .. machine, ARGV[5])
  end
end
return 1
