-- How many machines' leases have not lapsed. KEYS the leases
return call('ZCOUNT', KEYS[1], '(' .. int(rare().clock()), '+inf')
