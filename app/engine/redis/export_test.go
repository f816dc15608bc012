package redis

// MessagesKey is the key of a user's messages.
func MessagesKey(e *Engine, user string) string { return e.mailboxOf(user).m }

// MachinesKey is the key of the machines' leases.
func MachinesKey(e *Engine) string {
	z, _, _ := e.machineKeys()
	return z
}

// IndexedKey is the key that says since when ids are listed.
func IndexedKey(e *Engine) string { return e.indexedKey() }
