package handlers

// unauthenticatedFrames counts the memory that a WebSocket's messages take before the
// client has shown a token, in the same budget as bodies that are not verified. As
// with bodies, the first few bytes are not counted.
type unauthenticatedFrames struct {
	budget  *bodyBudget
	use     bodyUse
	counted int // bytes in use; only the reader's
}

// countUnauthenticated counts what c reads from here on, until stopCounting.
func (c *wsConn) countUnauthenticated(budget *bodyBudget, on *connection) {
	c.unauthenticated.Store(&unauthenticatedFrames{budget: budget, use: bodyUse{address: clientNetwork(c.remote), conn: on}})
}

// grows is called before the buffer of a message grows to size bytes. Its error says
// why the connection is given up.
func (c *wsConn) grows(size int) error {
	u := c.unauthenticated.Load()
	if u == nil || size <= firstBodyBytes || size <= u.counted {
		return nil
	}
	more := size - u.counted
	u.counted = size
	return u.budget.grow(&u.use, more)
}

// evicted is why the connection was given up to make room for others; nil where it
// was not.
func (c *wsConn) evicted() error {
	u := c.unauthenticated.Load()
	if u == nil {
		return nil
	}
	return u.budget.evicted(&u.use)
}

// stopCounting is called once the client has shown a token, or the connection is over.
func (c *wsConn) stopCounting() {
	if u := c.unauthenticated.Swap(nil); u != nil {
		_ = u.budget.done(&u.use) // the reader was told why, if it was evicted
	}
}
