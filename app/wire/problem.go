package wire

import "net/http"

// ProblemMediaType is the Content-Type of every error reply (RFC 9457).
const ProblemMediaType = "application/problem+json"

// Problem is an RFC 9457 problem. Detail says what to mend; it never carries a
// payload, a token, a secret or an expected signature.
type Problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Code     string `json:"code"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"` // the request's id, also in our log
	// BackendStatus is what a backend answered a request with, where it is not what it
	// should; 0 where no answer came, and in other problems.
	BackendStatus int `json:"backendStatus,omitzero"`
}

// Error makes a problem an error: a function that knows what its caller is to be told
// returns one.
func (p Problem) Error() string { return p.Code + ": " + p.Detail }

// Problem returns p. Other errors that know what the caller is to be told have this
// method too.
func (p Problem) Problem() Problem { return p }

// Problem codes. Each has one HTTP status and one title, in the table below.
const (
	CodeSignatureMissing    = "signature_missing"
	CodeSignatureMismatch   = "signature_mismatch"
	CodeTimestampWindow     = "timestamp_out_of_window"
	CodeMalformed           = "malformed"
	CodeUnsupportedMedia    = "unsupported_media_type"
	CodeTooLarge            = "too_large"
	CodeInvalidEvent        = "invalid_event"
	CodeForbiddenTarget     = "forbidden_target"
	CodeIDConflict          = "id_conflict"
	CodeRateLimited         = "rate_limited"
	CodeDraining            = "draining"
	CodeUnavailable         = "unavailable"
	CodeUnauthorized        = "unauthorized"
	CodeForbidden           = "forbidden"
	CodeOriginRefused       = "origin_refused"
	CodeTokenInURL          = "token_in_url"
	CodeSeveralTokens       = "several_tokens"
	CodeUnknownSubprotocol  = "unknown_subprotocol"
	CodeUpgradeRequired     = "upgrade_required"
	CodeTooManyConnections  = "too_many_connections"
	CodeNotFound            = "not_found"
	CodeMethodNotAllowed    = "method_not_allowed"
	CodeTimeout             = "request_timeout"
	CodeInternal            = "internal"
	CodeUnknownType         = "unknown_type"
	CodeInvalidFrame        = "invalid_frame"
	CodeHeaderFieldsTooLong = "header_fields_too_large"
	CodeInvalidRequest      = "invalid_request"
	CodeTokenRevoked        = "token_revoked"
	CodeBackendTimeout      = "backend_timeout"
	CodeBackendFailed       = "backend_failed"
)

type problemKind struct {
	status int
	title  string
}

var problemKinds = map[string]problemKind{
	CodeSignatureMissing:    {http.StatusUnauthorized, "The request is not signed"},
	CodeSignatureMismatch:   {http.StatusUnauthorized, "No signature matches"},
	CodeTimestampWindow:     {http.StatusUnauthorized, "The signature's time is outside the allowed window"},
	CodeMalformed:           {http.StatusBadRequest, "The request cannot be read"},
	CodeUnsupportedMedia:    {http.StatusUnsupportedMediaType, "The content type is not supported"},
	CodeTooLarge:            {http.StatusRequestEntityTooLarge, "The request is too large"},
	CodeInvalidEvent:        {http.StatusUnprocessableEntity, "The event is not valid"},
	CodeForbiddenTarget:     {http.StatusForbidden, "The sender may not reach this target"},
	CodeIDConflict:          {http.StatusConflict, "This id was used for another event"},
	CodeRateLimited:         {http.StatusTooManyRequests, "Too many requests"},
	CodeDraining:            {http.StatusServiceUnavailable, "This machine is about to stop"},
	CodeUnavailable:         {http.StatusServiceUnavailable, "Not available now"},
	CodeUnauthorized:        {http.StatusUnauthorized, "A valid token is needed"},
	CodeForbidden:           {http.StatusForbidden, "The token does not allow this"},
	CodeOriginRefused:       {http.StatusForbidden, "This origin may not connect"},
	CodeTokenInURL:          {http.StatusBadRequest, "A token must not stand in a URL"},
	CodeSeveralTokens:       {http.StatusBadRequest, "More than one token was given"},
	CodeUnknownSubprotocol:  {http.StatusBadRequest, "No offered subprotocol is known"},
	CodeUpgradeRequired:     {http.StatusUpgradeRequired, "This path speaks WebSocket"},
	CodeTooManyConnections:  {http.StatusServiceUnavailable, "Too many connections"},
	CodeNotFound:            {http.StatusNotFound, "Nothing is here"},
	CodeMethodNotAllowed:    {http.StatusMethodNotAllowed, "This method is not allowed here"},
	CodeTimeout:             {http.StatusRequestTimeout, "The request came too slowly"},
	CodeInternal:            {http.StatusInternalServerError, "The bridge failed"},
	CodeUnknownType:         {http.StatusBadRequest, "Unknown frame type"},
	CodeInvalidFrame:        {http.StatusBadRequest, "The frame's members are wrong"},
	CodeHeaderFieldsTooLong: {http.StatusRequestHeaderFieldsTooLarge, "The header is too large"},
	CodeInvalidRequest:      {http.StatusUnprocessableEntity, "The request's members are wrong"},
	CodeTokenRevoked:        {http.StatusForbidden, "The token was revoked"},
	CodeBackendTimeout:      {http.StatusGatewayTimeout, "The backend did not answer in time"},
	CodeBackendFailed:       {http.StatusBadGateway, "The backend did not answer as it should"},
}

// NewProblem makes the problem of a code. An unknown code is a programming
// error and becomes CodeInternal.
func NewProblem(code, detail string) Problem {
	k, ok := problemKinds[code]
	if !ok {
		code, k = CodeInternal, problemKinds[CodeInternal]
	}
	return Problem{Type: "urn:hookbridge:problem:" + code, Title: k.title, Status: k.status, Code: code, Detail: detail}
}

// JSON is the problem's wire form.
func (p Problem) JSON() []byte { return Encode(p) }
