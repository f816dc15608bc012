-- What comes after deliver.lua; see outbox_before.lua.
local answer = main()
if answer[1] == 'n' and answer[2] ~= '0' then time(timed[1], KEYS[4], answer[2]) end
return answer
