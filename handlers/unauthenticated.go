package handlers

// unprovenFrames counts the memory of what a WebSocket sends before it has shown a
// token, among that of bodies which are not verified. The first few bytes are free
// here, too.
type unprovenFrames struct {
	bodies  *bodies
	body    body
	counted int // bytes that bodies was told of; the reader's
}

// countUnproven counts what c reads from here on until proven is called.
func (c *conn) countUnproven(bs *bodies, on *connection) {
	c.unproven.Store(&unprovenFrames{bodies: bs, body: body{address: clientNetwork(c.remote), conn: on}})
}

// grows is told how large the buffer of the message under way is about to be. Its
// error says why the connection is given up.
func (c *conn) grows(size int) error {
	u := c.unproven.Load()
	if u == nil || size <= firstBodyBytes || size <= u.counted {
		return nil
	}
	more := size - u.counted
	u.counted = size
	return u.bodies.grow(&u.body, more)
}

// crowdedOut tells why the connection was given up, to make room for others; nil
// where it was not.
func (c *conn) crowdedOut() error {
	u := c.unproven.Load()
	if u == nil {
		return nil
	}
	return u.bodies.lost(&u.body)
}

// proven ends the counting: there was a token, or the connection is over.
func (c *conn) proven() {
	if u := c.unproven.Swap(nil); u != nil {
		_ = u.bodies.done(&u.body) // whoever reads was told why it was given up
	}
}
