package redis

// MessagesKey is the key of a user's messages.
func MessagesKey(e *Engine, user string) string { return e.mailboxOf(user).m }
