package auth

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Names of the first steps of Tokens.Diagnose; the others are named after claims.
const (
	StepForm   = "form"
	StepHeader = "header"
	StepIssuer = "issuer"
	StepKey    = "key"
	StepSigned = "signature"
	StepClaims = "claims"
)

// Diagnose checks a token as Verify does, but continues after a failure as far as it can,
// and looks for usual mistakes that explain a wrong signature. It is for a person at a
// terminal who has the token: details repeat some of its claims, but never the token or
// a secret. claims are the token's as far as they can be read, verified or not.
func (t *Tokens) Diagnose(ctx context.Context, token string) (steps []Step, claims Claims) {
	p, err := t.headers.parseToken(token)
	if err != nil {
		return []Step{{StepForm, false, err.Error()}}, claims
	}
	steps = append(steps, Step{StepForm, true, fmt.Sprintf("three parts, %d bytes", len(token))},
		Step{StepHeader, true, fmt.Sprintf("alg is %s, kid is %s", p.header.Alg, orNone(p.header.KID))})
	j, err := t.judge(&p)
	if err != nil {
		return append(steps, Step{StepIssuer, false, err.Error()}), claims
	}
	if len(t.byIssuer) > 0 {
		found := "the token is judged by its issuer's entry"
		if j == t.plain {
			found = "no entry for the token's iss: it is judged by the plain settings"
		}
		steps = append(steps, Step{StepIssuer, true, found})
	}
	steps = append(steps, j.diagnoseSignature(ctx, &p)...)
	said, claims := j.diagnoseClaims(&p)
	return append(steps, said...), claims
}

func (j *judge) diagnoseSignature(ctx context.Context, p *parsedToken) (steps []Step) {
	keys, err := j.keys.find(ctx, p.header.Alg, p.header.KID)
	if err != nil {
		return []Step{{StepKey, false, err.Error()}}
	}
	steps = append(steps, Step{StepKey, true, count(len(keys), "key") + " may have signed it"})
	err = j.checkSignature(ctx, p)
	steps = append(steps, step(StepSigned, err, "matches"))
	if err != nil {
		for _, hint := range signatureHints(p, keys) {
			steps = append(steps, Step{StepHint, false, hint})
		}
	}
	return steps
}

// signatureHints looks for a key that the issuer may have used by mistake.
func signatureHints(p *parsedToken, keys []any) (hints []string) {
	method := algorithms[p.header.Alg].method
	signed := func(key any) bool { return method.Verify(p.signed, p.signature, key) == nil }
	for i, key := range keys {
		secret, ok := key.([]byte)
		if !ok {
			continue
		}
		which := "the secret"
		if len(keys) > 1 {
			which = fmt.Sprintf("secret %d", i+1)
		}
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			if b, err := e.DecodeString(string(secret)); err == nil && signed(b) {
				hints = append(hints, which+" was decoded from base64 before signing; sign with its text as it stands here")
				break
			}
		}
		if b, err := hex.DecodeString(string(secret)); err == nil && signed(b) {
			hints = append(hints, which+" was decoded from hex before signing; sign with its text as it stands here")
		}
		for _, end := range []string{"\n", "\r\n", " "} {
			if signed(append(append([]byte{}, secret...), end...)) {
				hints = append(hints, which+" was signed with white space at its end; take that off where the token is made")
			}
		}
	}
	if _, isEC := method.(*jwt.SigningMethodECDSA); isEC && len(p.signature) > 0 && p.signature[0] == 0x30 {
		hints = append(hints, "the signature is in DER; JWS wants r and s one after the other (RFC 7518 §3.4)")
	}
	return hints
}

func (j *judge) diagnoseClaims(p *parsedToken) (steps []Step, c Claims) {
	b, err := p.payload()
	if err != nil {
		return []Step{{StepClaims, false, err.Error()}}, c
	}
	m, err := parseClaims(b)
	if err != nil {
		return []Step{{StepClaims, false, err.Error()}}, c
	}
	for _, one := range claimChecks {
		err := one.check(&j.claims, m, &c)
		steps = append(steps, step(one.name, err, j.claims.found(one.name, m, &c)))
	}
	c.Rights = []byte(m.get(j.claims.rights))
	return steps, c
}

// found describes a claim that passed its check.
func (r *claimRules) found(name string, m claimSet, c *Claims) string {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch name {
	case "exp":
		return fmt.Sprintf("ends at %s, in %s", at(c.Expires), span(c.Expires.Sub(r.now())))
	case "iat":
		if !c.IssuedAt.IsZero() {
			return "was issued at " + at(c.IssuedAt)
		}
	case "nbf":
		if nbf, ok, err := timeClaim(m, name); ok && err == nil {
			return "is good from " + at(nbf)
		}
	case "iss":
		if r.issuer == "" {
			return "is not checked; it is " + orNone(c.Issuer)
		}
		return "is the issuer that is set here"
	case "aud":
		if r.audience == "" {
			return "is not checked"
		}
		return "names the audience that is set here"
	case "user":
		return fmt.Sprintf("is %q, by the claim %s", c.User, r.user)
	case "jti":
		return "is " + orNone(c.ID)
	}
	return "is absent, which is allowed"
}

func orNone(s string) string {
	if s == "" {
		return "absent"
	}
	return fmt.Sprintf("%.100q", s)
}
