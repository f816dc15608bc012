-- Callbacks of a backend are not given up any more. KEYS D x; ARGV their members
for _, member in ipairs(ARGV) do
  call('ZREM', KEYS[1], member)
  call('ZREM', KEYS[2], member)
end
return 1
