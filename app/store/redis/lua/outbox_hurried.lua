-- What users had for a backend was hurried. KEYS h; ARGV of each its tag and its score when
-- that began: one with another score now has something to be hurried again.
for i = 1, #ARGV, 2 do
  if tonumber(call('ZSCORE', KEYS[1], ARGV[i]) or nil) == tonumber(ARGV[i + 1]) then call('ZREM', KEYS[1], ARGV[i]) end
end
return 1
