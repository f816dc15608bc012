package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MinSecretBytes is the least length of a token secret: the size of HS256's hash (RFC 7518
// §3.2). For HS384 and HS512 no more is asked, because issuers' libraries choose the
// algorithm whatever the secret's length.
const MinSecretBytes = 32

const (
	// DefaultLeeway is the usual room for differences between the clocks of the issuer,
	// of the app's backend that caches a token, and ours. A token is accepted for so
	// much longer than its issuer meant.
	DefaultLeeway = time.Minute
	// MaxLeeway bounds the leeway: clocks do not differ by more.
	MaxLeeway = 5 * time.Minute
)

const (
	// maxTokenBytes is the longest token looked at; headers and frames that
	// carry one are not much larger.
	maxTokenBytes = 8 << 10
	// maxKIDBytes is the longest key id looked up.
	maxKIDBytes = 256
)

// TokenConfig says which tokens are good. A token whose iss has an entry in Issuers is
// checked by that entry, any other by the settings beside it, of which at most one of
// Secrets, PublicKeyPEM and JWKSURL is set. Without any, other tokens are refused.
type TokenConfig struct {
	Secrets      []string // HS256, HS384, HS512: raw text of MinSecretBytes or more; any may have signed
	PublicKeyPEM string   // RSA, EC on P-256, P-384 or P-521, or Ed25519, for the algorithms of that kind of key
	JWKSURL      string   // where such keys are published, by their kid

	Issuer   string // iss that a token must carry; empty: not checked
	Audience string // aud that a token must name; empty: not checked

	Issuers []Issuer // see ParseIssuers

	Leeway      time.Duration // room for unequal clocks at exp and nbf, up to MaxLeeway; 0: none
	UserClaim   string        // claim that holds the user id; empty: sub
	RightsClaim string        // claim that holds the rights; empty: bridge

	Now                func() time.Time // the clock for exp, nbf and iat; nil: time.Now
	HTTPClient         *http.Client     // reads what issuers publish; nil: one of our own
	UnknownKIDInterval time.Duration    // least time between reads of the JWKS for unknown kids; 0: 3 s
	Logger             *slog.Logger     // hears about trouble with the JWKS; nil: silence
	// Loop runs the function that reads the JWKS, and runs it again should it
	// panic, until done is closed; nil: it is run once, as it is.
	Loop func(done <-chan struct{}, f func())
}

// Reasons of TokenError. Only TokenKeysUnavailable is temporary; for the others the client
// needs another token.
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

// keySource finds the keys that may have signed a token with this algorithm and kid, all
// of the algorithm's kind. The error is a *TokenError.
type keySource interface {
	find(ctx context.Context, alg, kid string) ([]any, error)
}

// judge has the keys and the rules for the tokens of one issuer.
type judge struct {
	keys   keySource
	claims claimRules
}

// Tokens checks tokens. It is safe for concurrent use.
type Tokens struct {
	plain    *judge            // for tokens of no issuer of byIssuer; nil: they are refused
	byIssuer map[string]*judge // by iss
	headers  headers
}

// NewTokens reads the configuration. Where keys are published, it starts reading
// them in the background, until ctx is done, and returns at once: a key server that
// is down delays the tokens, not the start. Errors name the setting that is wrong,
// and never a secret; where several are wrong, they are joined.
func NewTokens(ctx context.Context, c TokenConfig) (*Tokens, error) {
	t, start, err := newTokens(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, s := range start {
		if c.Loop == nil {
			go s.run(ctx)
		} else {
			go c.Loop(ctx.Done(), func() { s.run(ctx) })
		}
	}
	return t, nil
}

// Check returns the error of NewTokens, without reading keys from anywhere.
func (c TokenConfig) Check() error {
	_, _, err := newTokens(context.Background(), c)
	return err
}

// newTokens is NewTokens, and returns the key sets that have yet to be started.
func newTokens(ctx context.Context, c TokenConfig) (t *Tokens, start []*keySet, err error) {
	if c.Leeway < 0 || c.Leeway > MaxLeeway {
		return nil, nil, fmt.Errorf("the token leeway must be from 0 to %s", MaxLeeway)
	}
	given := 0
	for _, set := range []bool{len(c.Secrets) > 0, c.PublicKeyPEM != "", c.JWKSURL != ""} {
		if set {
			given++
		}
	}
	if given > 1 || given == 0 && len(c.Issuers) == 0 {
		return nil, nil, fmt.Errorf("exactly one of token secret, public key and JWKS URL must be set; %d are", given)
	}
	t = &Tokens{byIssuer: make(map[string]*judge, len(c.Issuers))}
	add := func(i Issuer) (*judge, error) {
		j, err := newJudge(ctx, c, i)
		if err != nil {
			return nil, err
		}
		if s, ok := j.keys.(*keySet); ok {
			start = append(start, s)
		}
		return j, nil
	}
	if given == 1 {
		plain := Issuer{Issuer: c.Issuer, Audience: c.Audience, Secrets: c.Secrets, PublicKeyPEM: c.PublicKeyPEM, JWKSURL: c.JWKSURL,
			UserClaim: c.UserClaim, RightsClaim: c.RightsClaim}
		if t.plain, err = add(plain); err != nil {
			return nil, nil, err
		}
	}
	var errs []error
	taken := map[string]bool{c.Issuer: given == 1}
	for n, i := range c.Issuers {
		if taken[i.Issuer] {
			errs = append(errs, fmt.Errorf("issuer %d: its tokens are judged by another entry already", n+1))
			continue
		}
		taken[i.Issuer] = true
		if t.byIssuer[i.Issuer], err = add(i); err != nil {
			errs = append(errs, fmt.Errorf("issuer %d: %w", n+1, err))
		}
	}
	return t, start, errors.Join(errs...)
}

func newJudge(ctx context.Context, c TokenConfig, i Issuer) (j *judge, err error) {
	j = &judge{}
	if j.claims, err = newClaimRules(c, i); err != nil {
		return nil, err
	}
	switch {
	case len(i.Secrets) > 0:
		j.keys, err = newSecretKeys(i.Secrets)
	case i.PublicKeyPEM != "":
		j.keys, err = newPublicKey(i.PublicKeyPEM)
	default:
		j.keys, err = newKeySet(ctx, c, i)
	}
	return j, err
}

// tokenHeader is what is read of the JOSE header. Keys and URLs in it (jwk, jku, x5c, x5u)
// are ignored: anybody can write them.
type tokenHeader struct {
	Alg  string         `json:"alg"`
	KID  string         `json:"kid"`
	Crit jsontext.Value `json:"crit"`
}

// parsedToken is a token in its parts, not verified yet.
type parsedToken struct {
	header    tokenHeader
	signed    string // header and claims as in the token, with a full stop between
	claims    string // in base64url
	signature []byte
}

// parseToken takes a token apart. Any error is a *TokenError.
func (h *headers) parseToken(token string) (p parsedToken, err error) {
	if token == "" {
		return p, tokenError(TokenMalformed, "the token is empty")
	}
	if len(token) > maxTokenBytes {
		return p, tokenError(TokenMalformed, "the token has %d bytes; %d are allowed", len(token), maxTokenBytes)
	}
	head, rest, ok1 := strings.Cut(token, ".")
	claims, sig, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || strings.Contains(sig, ".") {
		return p, tokenError(TokenMalformed, "the token is not three parts with full stops between")
	}
	if p.header, err = h.parse(head); err != nil {
		return p, err
	}
	p.signed, p.claims = token[:len(head)+1+len(claims)], claims
	p.signature, err = decodePart(sig)
	if _, known := algorithms[p.header.Alg]; !known {
		return p, errUnknownAlgorithm
	}
	if err != nil || len(p.signature) == 0 {
		return p, tokenError(TokenMalformed, "the token's signature is missing or not base64url")
	}
	return p, nil
}

// errUnknownAlgorithm does not repeat the algorithm: it is the token's own text.
var errUnknownAlgorithm = tokenError(TokenAlgorithm, "the token's alg is none of HS, RS, PS and ES with 256, 384 or 512, and EdDSA")

func (p *parsedToken) payload() ([]byte, error) {
	b, err := decodePart(p.claims)
	if err != nil {
		return nil, tokenError(TokenMalformed, "the token's claims are not base64url")
	}
	return b, nil
}

// Verify checks the token's signature, then its claims. It waits for the key
// server only where the token names a key that is not known yet, 4.5 seconds at
// most. Any error is a *TokenError.
func (t *Tokens) Verify(ctx context.Context, token string) (Claims, error) {
	p, err := t.headers.parseToken(token)
	if err != nil {
		return Claims{}, err
	}
	j, err := t.judge(&p)
	if err != nil {
		return Claims{}, err
	}
	if err := j.checkSignature(ctx, &p); err != nil {
		return Claims{}, err
	}
	b, err := p.payload()
	if err != nil {
		return Claims{}, err
	}
	claims, err := j.claims.read(b)
	claims.Token = fingerprint(p.signed)
	return claims, err
}

// checkSignature tries the keys that may have signed the token.
func (j *judge) checkSignature(ctx context.Context, p *parsedToken) error {
	keys, err := j.keys.find(ctx, p.header.Alg, p.header.KID)
	if err != nil {
		return err
	}
	method := algorithms[p.header.Alg].method
	for _, key := range keys {
		if method.Verify(p.signed, p.signature, key) == nil {
			return nil
		}
	}
	if len(keys) > 1 {
		return tokenError(TokenBadSignature, "the token's signature matches none of the %d secrets that are set here", len(keys))
	}
	return tokenError(TokenBadSignature, "the token's signature does not match the key that is set here")
}

// fingerprintBytes of SHA-256 are enough to tell the tokens of one user apart.
const fingerprintBytes = 12

// fingerprint identifies a token, also one without jti, by a hash of what is signed. The
// signature is left out, because some can be spelt in several ways.
func fingerprint(signed string) string {
	sum := sha256.Sum256([]byte(signed))
	return hex.EncodeToString(sum[:fingerprintBytes])
}

// headers remembers the header that was parsed last: the tokens of one issuer all have
// the same one.
type headers struct {
	last atomic.Pointer[parsedHeader]
}

// parsedHeader is a header that was parsed without an error.
type parsedHeader struct {
	part   string // as it stands in the token
	header tokenHeader
}

func (h *headers) parse(part string) (tokenHeader, error) {
	if last := h.last.Load(); last != nil && last.part == part {
		return last.header, nil
	}
	header, err := parseTokenHeader(part)
	if err == nil {
		h.last.Store(&parsedHeader{strings.Clone(part), header})
	}
	return header, err
}

func parseTokenHeader(part string) (tokenHeader, error) {
	var h tokenHeader
	b, err := decodePart(part)
	if err != nil {
		return h, tokenError(TokenMalformed, "the token's header is not base64url")
	}
	// Names are case-sensitive and a repeated name is an error, so that whatever else
	// checks this token reads the same.
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
