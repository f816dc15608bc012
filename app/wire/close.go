package wire

// CloseCode is a WebSocket close code (RFC 6455 §7.4; 4000–4999 are ours).
type CloseCode uint16

// Close codes, and what a client does on each.
const (
	CloseNormal       CloseCode = 1000 // signed out: stop
	CloseGoingAway    CloseCode = 1001 // machine stops: reconnect as told
	CloseProtocol     CloseCode = 1002 // RFC 6455 broken: stop, it is a bug
	CloseUnsupported  CloseCode = 1003 // binary frame: stop, it is a bug
	CloseInvalidUTF8  CloseCode = 1007 // text that is not UTF-8: stop, it is a bug
	CloseTooBig       CloseCode = 1009 // frame over maxBytes: stop, it is a bug
	CloseInternal     CloseCode = 1011 // server error: back off
	CloseRestart      CloseCode = 1012 // machine restarts: reconnect as told
	CloseOverloaded   CloseCode = 1013 // too many connections: back off 5 s or more
	CloseBadFrame     CloseCode = 4400 // not a frame: stop, it is a bug
	CloseUnauthorized CloseCode = 4401 // token missing, invalid or expired: new token, once
	CloseForbidden    CloseCode = 4403 // forbidden, revoked, another user: stop
	CloseNoConnect    CloseCode = 4408 // no connect frame in time: reconnect once
	CloseReplaced     CloseCode = 4409 // the user's session limit: stop, tell the user
	CloseErased       CloseCode = 4410 // user erased: stop, clear local data
	CloseTooMany      CloseCode = 4429 // too many frames: back off 30 s or more
	CloseSlow         CloseCode = 4498 // queue overflowed: reconnect at once with the last cursor
)
