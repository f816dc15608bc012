-- Callbacks are about to be stored, in slots that the script cannot reach.
-- KEYS and ARGV are callbacks; see outbox_lib.lua.
local p = callbacks()
local states, evicted = admitAll(p)
if not states then return { 'full', {}, evicted } end
for i, c in ipairs(p.list) do
  if states[i] ~= -1 then hint(p.index[c.j].z, c.tag, p.now) end
end
return { 'ok', states, evicted }
