package server

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"hookbridge/auth"
)

// TokenConfig says how tokens are checked. Its error names the setting.
func (s *TokenSettings) TokenConfig(log *slog.Logger) (auth.TokenConfig, error) {
	c, err := s.plainConfig()
	if err == nil {
		c.Issuers, err = s.issuers()
	}
	c.Logger = log
	return c, err
}

// plainConfig is what stands in the settings themselves.
func (s *TokenSettings) plainConfig() (auth.TokenConfig, error) {
	c := auth.TokenConfig{
		Secrets: s.JWTSecret.List(), PublicKeyPEM: s.JWTPublicKey, JWKSURL: s.JWKSURL,
		Issuer: s.JWTIssuer, Audience: s.JWTAudience, Leeway: s.JWTLeeway,
		UserClaim: s.JWTUserClaim, RightsClaim: s.JWTRightsClaim,
	}
	if c.PublicKeyPEM != "" && !strings.Contains(c.PublicKeyPEM, "-----BEGIN") {
		pem, err := ReadRegular(c.PublicKeyPEM, maxSettingsFile)
		if err != nil {
			return c, fmt.Errorf("BRIDGE_JWT_PUBLIC_KEY is neither PEM nor a readable file: %w", err)
		}
		c.PublicKeyPEM = string(pem)
	}
	return c, nil
}

// issuers are those of the file; none without one.
func (s *TokenSettings) issuers() ([]auth.Issuer, error) {
	if s.JWTIssuersFile == "" {
		return nil, nil
	}
	b, err := ReadRegular(s.JWTIssuersFile, maxSettingsFile)
	if err != nil {
		return nil, fmt.Errorf("BRIDGE_JWT_ISSUERS_FILE cannot be read: %w", err)
	}
	list, err := auth.ParseIssuers(b)
	var all Faults
	all.take("BRIDGE_JWT_ISSUERS_FILE", err)
	return list, all.orNil()
}

// TokenFaults finds what is wrong with how tokens are to be checked.
func (s *TokenSettings) TokenFaults() Faults {
	all := s.plainTokenFaults()
	issuers, err := s.issuers()
	if err != nil {
		all.take("", err)
		return all
	}
	for i, issuer := range issuers {
		for _, secret := range issuer.Secrets {
			if strings.HasPrefix(secret, DevMark) {
				all.Add("BRIDGE_JWT_ISSUERS_FILE: issuer %d has a secret that dev made: make one of your own with: openssl rand -base64 48", i+1)
			}
		}
	}
	if len(issuers) == 0 {
		return all
	}
	c, err := s.plainConfig()
	if err != nil || c.Check() != nil { // there is none, or it is known already what is wrong with it
		c = auth.TokenConfig{}
	}
	c.Leeway, c.Issuers = 0, issuers
	all.take("BRIDGE_JWT_ISSUERS_FILE", c.Check())
	return all
}

func (s *TokenSettings) plainTokenFaults() (all Faults) {
	n := 0
	for _, set := range []bool{s.JWTSecret != "", s.JWTPublicKey != "", s.JWKSURL != ""} {
		if set {
			n++
		}
	}
	switch {
	case n == 0 && s.JWTIssuersFile == "":
		all.Add("no way to check tokens: set BRIDGE_JWT_SECRET (32 bytes or more), BRIDGE_JWT_PUBLIC_KEY, BRIDGE_JWKS_URL or BRIDGE_JWT_ISSUERS_FILE")
	case n > 1:
		all.Add("set only one of BRIDGE_JWT_SECRET, BRIDGE_JWT_PUBLIC_KEY and BRIDGE_JWKS_URL")
	}
	if n == 0 && s.JWTIssuersFile != "" {
		all = append(all, s.idleFaults()...)
	}
	for _, one := range []struct{ name, value string }{
		{"BRIDGE_JWT_ISSUER", s.JWTIssuer}, {"BRIDGE_JWT_AUDIENCE", s.JWTAudience},
		{"BRIDGE_JWT_USER_CLAIM", s.JWTUserClaim}, {"BRIDGE_JWT_RIGHTS_CLAIM", s.JWTRightsClaim},
	} {
		all.take(one.name, checkEnds(one.value))
	}
	c, err := s.plainConfig()
	all.take("", err)
	for i, secret := range c.Secrets {
		if strings.HasPrefix(secret, DevMark) {
			all.Add("BRIDGE_JWT_SECRET, entry %d, is a secret that dev made: make one of your own with: openssl rand -base64 48", i+1)
		}
	}
	if n != 1 || err != nil {
		return all
	}
	c.Leeway = 0 // its range is looked at with those of the others
	before := len(all)
	check := c.Check()
	setting := s.tokenSetting()
	if errors.Is(check, auth.ErrClaimName) {
		setting = "BRIDGE_JWT_USER_CLAIM and BRIDGE_JWT_RIGHTS_CLAIM"
	}
	all.take(setting, check)
	if len(c.Secrets) > 1 {
		for i := before; i < len(all); i++ {
			all[i] = fmt.Errorf("%w (a comma separates secrets)", all[i])
		}
	}
	return all
}

// idleFaults are settings that hold for tokens of the plain settings, where these
// have no key: somebody who sets an audience means it to be checked.
func (s *TokenSettings) idleFaults() (all Faults) {
	for _, one := range []struct{ name, member, value, usual string }{
		{"BRIDGE_JWT_ISSUER", "issuer", s.JWTIssuer, ""}, {"BRIDGE_JWT_AUDIENCE", "audience", s.JWTAudience, ""},
		{"BRIDGE_JWT_USER_CLAIM", "userClaim", s.JWTUserClaim, "sub"}, {"BRIDGE_JWT_RIGHTS_CLAIM", "rightsClaim", s.JWTRightsClaim, "bridge"},
	} {
		if one.value != "" && one.value != one.usual {
			all.Add("%s does not hold for the issuers of BRIDGE_JWT_ISSUERS_FILE: set %s there instead", one.name, one.member)
		}
	}
	return all
}

// tokenSetting names the setting that decides how tokens are checked.
func (s *TokenSettings) tokenSetting() string {
	switch {
	case s.JWTPublicKey != "":
		return "BRIDGE_JWT_PUBLIC_KEY"
	case s.JWKSURL != "":
		return "BRIDGE_JWKS_URL"
	case s.JWTSecret == "" && s.JWTIssuersFile != "":
		return "BRIDGE_JWT_ISSUERS_FILE"
	}
	return "BRIDGE_JWT_SECRET"
}

// Empty tells that nothing says how tokens are checked.
func (s *TokenSettings) Empty() bool {
	return s.JWTSecret == "" && s.JWTPublicKey == "" && s.JWKSURL == "" && s.JWTIssuersFile == ""
}
