package auth

import (
	"strings"
	"testing"
	"time"
)

func TestPEM(t *testing.T) {
	t.Run("is read in each shape that settings give it", pemShapes)
}

func pemShapes(t *testing.T) {
	k := testKeys()
	block := pemOf(t, k.rsa.Public())
	lines := strings.Split(strings.TrimSpace(block), "\n")
	for name, text := range map[string]string{
		"as it is":                 block,
		"with a BOM":               "\ufeff" + block,
		"in double quotes":         `"` + block + `"`,
		"in single quotes":         "'" + strings.TrimSpace(block) + "'\n",
		"indented":                 "    " + strings.Join(lines, "\n    ") + "\n",
		"indented by tabs":         "\t" + strings.Join(lines, "\n\t"),
		"with CRLF":                strings.Join(lines, "\r\n") + "\r\n",
		"with CR":                  strings.Join(lines, "\r"),
		`with \n`:                  strings.Join(lines, `\n`),
		`with \r\n, in quotes`:     `"` + strings.Join(lines, `\r\n`) + `\n"`,
		"on one line":              strings.Join(lines, " "),
		"with blank lines":         "\n\n" + strings.Join(lines, "\n\n") + "\n\n",
		"a BOM, quotes and indent": "\ufeff\"  " + strings.Join(lines, "\n  ") + "\"",
	} {
		t.Run(name, func(t *testing.T) {
			tokens, err := NewTokens(t.Context(), TokenConfig{PublicKeyPEM: text, Now: func() time.Time { return testNow }})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.Verify(t.Context(), signedBy(t, algPS384, "", goodClaims, k.rsa)); err != nil {
				t.Error(err)
			}
		})
	}
}
