-- A message whose id is claimed goes into one mailbox, once. KEYS k h m g t l I and,
-- where the script can reach it, the shared message; k remembers that the mailbox got the
-- message. ARGV now ttl touch exp limit topic blob channel self except head dead all cluster
-- only room size number id record stretch. only: nothing new is stored any more;
-- number: empty if the mailbox gets the message itself; blob: empty if the script can reach the
-- shared message.
local now, exp = tonumber(ARGV[1]), ARGV[4]
local known = call('GET', KEYS[1])
if known or ARGV[15] == '1' then
  known = known or '0'
  if ARGV[3] == '1' and known ~= '0' then call('SET', KEYS[1], known, 'KEEPTTL') end -- see touch in remember
  return { 'd', known, kept(KEYS[2], KEYS[3], known, now) }
end
local place, blob, shared = '0', ARGV[7], nil
if blob == '' then blob = nil end
if ARGV[18] ~= '' then shared = { id = ARGV[19], number = ARGV[18] } end
if exp ~= '' then
  local s = call('HMGET', KEYS[2], 's', 'nx', 'mx', 'tr', 'b', 'ln')
  requireLife(s[6])
  local seq
  seq, place = newest(s)
  append(s, seq, place, KEYS[2], KEYS[3], KEYS[4], KEYS[5], now, exp, tonumber(ARGV[5]), tonumber(ARGV[16]), ARGV[6],
    tonumber(ARGV[17]), blob, shared)
end
call('SET', KEYS[1], place, 'PX', ARGV[2])
local answer = { 'n', place, 0, 1 }
if ARGV[13] == '1' then
  call('PUBLISH', ARGV[8] .. 'all', 'D' .. place .. ' ' .. ARGV[11] .. MARK .. blob)
else
  index(KEYS[7], ARGV[20], ARGV[2], ARGV[21])
  answer[3], answer[4] = spread(KEYS[6], ARGV[8], ARGV[9], ARGV[10], ARGV[12], ARGV[14], place, ARGV[11], blob, '0', KEYS[8])
end
for _, one in ipairs(released) do answer[#answer + 1] = one end
return answer
