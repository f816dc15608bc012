package auth

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// SignToken makes a HS256 token for c, which needs a User and Expires, with the user in
// sub and the rights in bridge. It is for development, tests and tools: in production
// the service where users sign in makes the tokens.
func SignToken(secret string, c Claims) (string, error) {
	if err := checkTokenSecret(secret); err != nil {
		return "", fmt.Errorf("the token secret %w", err)
	}
	if err := checkName(c.User, maxUserRunes); err != nil {
		return "", fmt.Errorf("the user %w", err)
	}
	if c.Expires.IsZero() {
		return "", errors.New("the expiry is missing")
	}
	m := jwt.MapClaims{defaultUserClaim: c.User, "exp": c.Expires.Unix()}
	if c.ID != "" {
		if err := checkName(c.ID, maxIDRunes); err != nil {
			return "", fmt.Errorf("the token id %w", err)
		}
		m["jti"] = c.ID
	}
	if !c.IssuedAt.IsZero() {
		m["iat"] = c.IssuedAt.Unix()
	}
	if len(c.Rights) > 0 {
		if !jsontext.Value(c.Rights).IsValid() {
			return "", errors.New("the rights are not JSON")
		}
		m[defaultRightsClaim] = c.Rights
	}
	if c.Issuer != "" {
		m["iss"] = c.Issuer
	}
	switch len(c.Audiences) {
	case 0:
	case 1:
		m["aud"] = c.Audiences[0]
	default:
		m["aud"] = c.Audiences
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString([]byte(secret))
	if err != nil {
		return "", errors.New("the token could not be signed")
	}
	if len(token) > maxTokenBytes {
		return "", fmt.Errorf("the token would have %d bytes; %d are allowed", len(token), maxTokenBytes)
	}
	return token, nil
}
