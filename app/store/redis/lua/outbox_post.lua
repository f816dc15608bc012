-- Callbacks of one user are stored. KEYS and ARGV are callbacks; see outbox_lib.lua.
return storeAll(callbacks())
