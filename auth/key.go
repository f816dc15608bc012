package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// maxTokenSecrets bounds the work that one forged token causes.
const maxTokenSecrets = 16

// fixedKeys are configured keys of one kind, any of which may have signed. A token's kid
// is ignored, since they have none.
type fixedKeys struct {
	kind keyKind
	are  []any
}

func (k fixedKeys) find(_ context.Context, alg, _ string) ([]any, error) {
	if algorithms[alg].kind != k.kind {
		return nil, errAlgorithm(k.kind)
	}
	return k.are, nil
}

// errAlgorithm does not repeat the algorithm: it is the token's own text.
func errAlgorithm(kind keyKind) *TokenError {
	return tokenError(TokenAlgorithm, "the token's alg is not allowed with the key that is set here, which is for %s", kind)
}

// newSecretKeys reads secrets, the newest first or in any other order.
func newSecretKeys(secrets []string) (fixedKeys, error) {
	if len(secrets) > maxTokenSecrets {
		return fixedKeys{}, fmt.Errorf("%d token secrets are set; at most %d are allowed", len(secrets), maxTokenSecrets)
	}
	keys := fixedKeys{kind: kindSecret}
	var errs []error
	for i, s := range secrets {
		if err := checkTokenSecret(s); err != nil {
			which := "the token secret"
			if len(secrets) > 1 {
				which = fmt.Sprintf("token secret %d of %d", i+1, len(secrets))
			}
			errs = append(errs, fmt.Errorf("%s %w", which, err))
		}
		keys.are = append(keys.are, []byte(s))
	}
	return keys, errors.Join(errs...)
}

func checkTokenSecret(secret string) error {
	switch {
	case secret == "":
		return errors.New("is empty")
	case strings.Contains(secret, pemBegin):
		return errors.New("is a PEM block; a public key belongs in the public key's setting")
	case strings.TrimSpace(secret) != secret:
		return errors.New("begins or ends with white space; take it away, or sign with a secret that has none")
	case len(secret) < MinSecretBytes:
		return fmt.Errorf("has %d bytes; at least %d are needed", len(secret), MinSecretBytes)
	}
	return nil
}

// newPublicKey reads a public key in PEM.
func newPublicKey(text string) (fixedKeys, error) {
	key, kind, err := parsePublicKey(text)
	if err != nil {
		return fixedKeys{}, fmt.Errorf("the token public key %w", err)
	}
	return fixedKeys{kind, []any{key}}, nil
}
