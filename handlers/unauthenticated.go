package handlers

// unauthenticatedFrames counts the memory of what a WebSocket sends before it has shown a
// token, among that of bodies which are not verified. The first few bytes are free
// here, too.
type unauthenticatedFrames struct {
	bodies  *bodyBudget
	body    bodyUse
	counted int // bytes that bodies was told of; the reader's
}

// countUnauthenticated counts what c reads from here on until proven is called.
func (c *wsConn) countUnauthenticated(bs *bodyBudget, on *connection) {
	c.unauthenticated.Store(&unauthenticatedFrames{bodies: bs, body: bodyUse{address: clientNetwork(c.remote), conn: on}})
}

// grows is told how large the buffer of the message under way is about to be. Its
// error says why the connection is given up.
func (c *wsConn) grows(size int) error {
	u := c.unauthenticated.Load()
	if u == nil || size <= firstBodyBytes || size <= u.counted {
		return nil
	}
	more := size - u.counted
	u.counted = size
	return u.bodies.grow(&u.body, more)
}

// evicted tells why the connection was given up, to make room for others; nil
// where it was not.
func (c *wsConn) evicted() error {
	u := c.unauthenticated.Load()
	if u == nil {
		return nil
	}
	return u.bodies.evicted(&u.body)
}

// stopCounting ends the counting: there was a token, or the connection is over.
func (c *wsConn) stopCounting() {
	if u := c.unauthenticated.Swap(nil); u != nil {
		_ = u.bodies.done(&u.body) // whoever reads was told why it was given up
	}
}
