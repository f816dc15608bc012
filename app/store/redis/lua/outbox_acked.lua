-- Which messages an ack covers. KEYS m; ARGV after, up to, how many at most, now. It returns
-- the last place it has looked at, and of each message that is there its
-- expiry, and the message up to its payload (of a shared one a zero and its id).
local EVENT = 8
local out, last = { ARGV[2] }, nil
local page = call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', ARGV[2] .. '-0', 'COUNT', ARGV[3])
for _, e in ipairs(page) do
  last = string.match(e[1], '^%d+')
  if tonumber(e[2][2]) > tonumber(ARGV[4]) then
    local d, at, stop = e[2][4], 2, nil
    if e[2][3] == 'r' then
      d = '\0' .. d
    else
      while at <= #d and not stop do
        local tag, n, unit, c = string.byte(d, at), 0, 1, nil
        if tag == EVENT then
          stop = at
        else
          repeat
            at = at + 1
            c = string.byte(d, at)
            n = n + c % 128 * unit
            unit = unit * 128
          until c < 128
          at = at + 1 + n
        end
      end
      d = string.sub(d, 1, (stop or #d + 1) - 1)
    end
    out[#out + 1], out[#out + 2] = e[2][2], d
  end
end
if #page == tonumber(ARGV[3]) then out[1] = last end
return out
