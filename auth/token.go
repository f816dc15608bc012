package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// MinSecretBytes is the least a token secret holds: as much as the hash that
// HS256 uses gives out (RFC 7518 §3.2).
const MinSecretBytes = 32

const (
	// DefaultLeeway is the usual room for clocks that differ: that of the
	// issuer, of the app's backend that caches a token, and ours. A token is
	// taken for so much longer than its issuer meant.
	DefaultLeeway = time.Minute
	// MaxLeeway is where a leeway stops being about clocks.
	MaxLeeway = 5 * time.Minute
)

const (
	// maxTokenBytes is the longest token looked at; headers and frames that
	// carry one are not much larger.
	maxTokenBytes = 8 << 10
	// maxKIDBytes is the longest key id looked up.
	maxKIDBytes = 256
)

// Algorithms of tokens. No configuration takes HS256 beside another one: a
// public key must never serve as an HMAC secret.
const (
	algHS256 = "HS256"
	algRS256 = "RS256"
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

// TokenConfig says which tokens are good. Exactly one of Secret, PublicKeyPEM
// and JWKSURL is set.
type TokenConfig struct {
	Secret       string // HS256, raw text of MinSecretBytes or more
	PublicKeyPEM string // RS256, ES256 or EdDSA, by the kind of the key
	JWKSURL      string // RS256, ES256 and EdDSA keys by their kid

	Issuer   string // iss that a token must carry; empty: not checked
	Audience string // aud that a token must name; empty: not checked

	Leeway      time.Duration // room for unequal clocks at exp and nbf, up to MaxLeeway; 0: none
	UserClaim   string        // claim that holds the user id; empty: sub
	RightsClaim string        // claim that holds the rights; empty: bridge

	Now                func() time.Time // the clock for exp, nbf and iat; nil: time.Now
	HTTPClient         *http.Client     // reads the JWKS; nil: one of our own
	UnknownKIDInterval time.Duration    // least time between reads of the JWKS for unknown kids; 0: 3 s
	Logger             *slog.Logger     // hears about trouble with the JWKS; nil: silence
	// Loop runs the function that reads the JWKS, and runs it again should it
	// panic, until done is closed; nil: it is run once, as it is.
	Loop func(done <-chan struct{}, f func())
}

// Reasons of TokenError. Only TokenKeysUnavailable may pass by itself; with the
// others the client needs another token.
const (
	TokenMalformed       = "malformed"         // not a JWT, or too long, or of a form refused here
	TokenAlgorithm       = "algorithm_refused" // an algorithm that is not allowed with the key in use
	TokenBadSignature    = "bad_signature"     // signed by someone else, or changed since
	TokenUnknownKey      = "unknown_key"       // the JWKS has no key for its kid and algorithm
	TokenKeysUnavailable = "keys_unavailable"  // the JWKS could not be read
	TokenExpired         = "expired"           // exp is past
	TokenNotYetValid     = "not_yet_valid"     // nbf, or iat, is ahead
	TokenBadClaims       = "bad_claims"        // a claim is missing or has a wrong form
	TokenWrongIssuer     = "wrong_issuer"      // iss is another
	TokenWrongAudience   = "wrong_audience"    // aud names others
)

// TokenError is every error of Tokens.Verify. Detail says what to mend, without
// any byte of the token.
type TokenError struct {
	Reason string
	Detail string
}

// Error is the detail.
func (e *TokenError) Error() string { return e.Detail }

func tokenError(reason, format string, args ...any) *TokenError {
	return &TokenError{reason, fmt.Sprintf(format, args...)}
}

// keySource finds the key that a token's header asks for. The error is a
// *TokenError.
type keySource interface {
	key(ctx context.Context, alg, kid string) (any, error)
}

// Tokens checks tokens. It is safe for concurrent use.
type Tokens struct {
	keys   keySource
	claims claimRules
}

// NewTokens reads the configuration. With a JWKSURL it starts reading the keys
// in the background, until ctx is done, and returns at once: a key server that
// is down delays the tokens, not the start. Errors name the setting that is
// wrong, and never a secret.
func NewTokens(ctx context.Context, c TokenConfig) (*Tokens, error) {
	given := 0
	for _, s := range []string{c.Secret, c.PublicKeyPEM, c.JWKSURL} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return nil, fmt.Errorf("exactly one of token secret, public key and JWKS URL must be set; %d are", given)
	}
	if c.Leeway < 0 || c.Leeway > MaxLeeway {
		return nil, fmt.Errorf("the token leeway must be from 0 to %s", MaxLeeway)
	}
	rules, err := newClaimRules(c)
	if err != nil {
		return nil, err
	}
	t := &Tokens{claims: rules}
	switch {
	case c.Secret != "":
		t.keys, err = newSecretKey(c.Secret)
	case c.PublicKeyPEM != "":
		t.keys, err = newPublicKey(c.PublicKeyPEM)
	default:
		t.keys, err = newKeySet(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// tokenHeader is the JOSE header as far as it is heeded. Keys and URLs that a
// header brings along (jwk, jku, x5c, x5u) are a stranger's word and ignored.
type tokenHeader struct {
	Alg  string         `json:"alg"`
	KID  string         `json:"kid"`
	Crit jsontext.Value `json:"crit"`
}

// Verify checks the token's signature, then its claims. It waits for the key
// server only where the token names a key that is not known yet, 4.5 seconds at
// most. Any error is a *TokenError.
func (t *Tokens) Verify(ctx context.Context, token string) (Claims, error) {
	if token == "" {
		return Claims{}, tokenError(TokenMalformed, "the token is empty")
	}
	if len(token) > maxTokenBytes {
		return Claims{}, tokenError(TokenMalformed, "the token has %d bytes; %d are allowed", len(token), maxTokenBytes)
	}
	head, rest, ok1 := strings.Cut(token, ".")
	payload, sig, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || strings.Contains(sig, ".") {
		return Claims{}, tokenError(TokenMalformed, "the token is not three parts with full stops between")
	}
	h, err := parseTokenHeader(head)
	if err != nil {
		return Claims{}, err
	}
	method := signingMethod(h.Alg)
	if method == nil {
		return Claims{}, errAlgorithm
	}
	signature, err := decodePart(sig)
	if err != nil || len(signature) == 0 {
		return Claims{}, tokenError(TokenMalformed, "the token's signature is missing or not base64url")
	}
	key, err := t.keys.key(ctx, h.Alg, h.KID)
	if err != nil {
		return Claims{}, err
	}
	if err := method.Verify(token[:len(head)+1+len(payload)], signature, key); err != nil {
		return Claims{}, tokenError(TokenBadSignature, "the token's signature does not match the key that is set here")
	}
	b, err := decodePart(payload)
	if err != nil {
		return Claims{}, tokenError(TokenMalformed, "the token's claims are not base64url")
	}
	return t.claims.read(b)
}

// errAlgorithm does not repeat the algorithm: it is the token's own text.
var errAlgorithm = tokenError(TokenAlgorithm, "the token's alg is not allowed with the key that is set here")

func parseTokenHeader(part string) (tokenHeader, error) {
	var h tokenHeader
	b, err := decodePart(part)
	if err != nil {
		return h, tokenError(TokenMalformed, "the token's header is not base64url")
	}
	// Names are matched with their case, and a repeated name is an error:
	// whatever checked this token before us must have read what we read.
	if err := json.Unmarshal(b, &h); err != nil {
		return h, tokenError(TokenMalformed, "the token's header is not a JSON object with a string alg and kid, each name once")
	}
	if len(h.Crit) > 0 {
		return h, tokenError(TokenMalformed, "the token's header has crit; no extension is understood here")
	}
	return h, nil
}

func decodePart(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") { // the decoder would skip them
		return nil, errors.New("line break")
	}
	return strictBase64URL.DecodeString(part)
}

// strictBase64URL is base64url in which each value has one spelling only.
var strictBase64URL = base64.RawURLEncoding.Strict()

// signingMethod is nil for what is on no allow-list, "none" above all.
func signingMethod(alg string) jwt.SigningMethod {
	switch alg {
	case algHS256:
		return jwt.SigningMethodHS256
	case algRS256:
		return jwt.SigningMethodRS256
	case algES256:
		return jwt.SigningMethodES256
	case algEdDSA:
		return jwt.SigningMethodEdDSA
	default:
		return nil
	}
}
