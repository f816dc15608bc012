package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestClaims(t *testing.T) {
	t.Run("tell who may do what", claimsAreRead)
	t.Run("are taken or refused, one by one", claimsByTable)
	t.Run("end with exp, or with the leeway after it", claimsEnd)
	t.Run("end by the year 9999", claimsEndByYear9999)
	t.Run("in other units than seconds are refused, and the unit is named", claimsInOtherUnits)
	t.Run("have a fingerprint of their own", claimsFingerprint)
}

func claimsAreRead(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}})
	c := Claims{User: "doctor-7 Ω", ID: "j1", IssuedAt: testNow.Add(-time.Minute), Expires: testNow.Add(time.Hour),
		Rights: []byte(`{"send":["patient-*"]}`), Issuer: "us", Audiences: []string{"a", "b"}}
	token, err := SignToken(testSecret, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokens.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if got.User != c.User || got.ID != c.ID || !got.IssuedAt.Equal(c.IssuedAt) || !got.Expires.Equal(c.Expires) ||
		string(got.Rights) != string(c.Rights) || got.Issuer != "us" || strings.Join(got.Audiences, " ") != "a b" {
		t.Errorf("got %+v", got)
	}
}

func claimsByTable(t *testing.T) {
	strict := TokenConfig{Secrets: []string{testSecret}, Issuer: "https://id.example", Audience: "bridge"}
	lenient := TokenConfig{Secrets: []string{testSecret}, Leeway: time.Minute}
	named := TokenConfig{Secrets: []string{testSecret}, UserClaim: "uid", RightsClaim: "https://example.org/rights"}
	for name, c := range map[string]struct {
		config TokenConfig // zero: only the secret
		claims string      // EXP stands for a good exp
		want   string      // a reason; empty: good
	}{
		"the least":                    {claims: `{"sub":"u","exp":EXP}`},
		"exp with a fraction":          {claims: `{"sub":"u","exp":1795377601.75}`},
		"exp with an exponent":         {claims: `{"sub":"u","exp":1.8e9}`},
		"exp missing":                  {claims: `{"sub":"u"}`, want: TokenBadClaims},
		"exp null":                     {claims: `{"sub":"u","exp":null}`, want: TokenBadClaims},
		"exp a string":                 {claims: `{"sub":"u","exp":"1795377601"}`, want: TokenBadClaims},
		"exp zero":                     {claims: `{"sub":"u","exp":0}`, want: TokenExpired},
		"exp negative":                 {claims: `{"sub":"u","exp":-1e300}`, want: TokenExpired},
		"exp now":                      {claims: `{"sub":"u","exp":1795377600}`, want: TokenExpired},
		"exp a second ago":             {claims: `{"sub":"u","exp":1795377599}`, want: TokenExpired},
		"exp in the leeway":            {config: lenient, claims: `{"sub":"u","exp":1795377541}`},
		"exp at the leeway's end":      {config: lenient, claims: `{"sub":"u","exp":1795377540}`, want: TokenExpired},
		"exp in upper case":            {claims: `{"sub":"u","EXP":1795378600}`, want: TokenBadClaims},
		"nbf past":                     {claims: `{"sub":"u","exp":EXP,"nbf":1795377600}`},
		"nbf a second ahead":           {claims: `{"sub":"u","exp":EXP,"nbf":1795377601}`, want: TokenNotYetValid},
		"nbf in the leeway":            {config: lenient, claims: `{"sub":"u","exp":EXP,"nbf":1795377660}`},
		"nbf beyond the leeway":        {config: lenient, claims: `{"sub":"u","exp":EXP,"nbf":1795377661}`, want: TokenNotYetValid},
		"nbf absurd":                   {claims: `{"sub":"u","exp":EXP,"nbf":1e400}`, want: TokenNotYetValid},
		"nbf a string":                 {claims: `{"sub":"u","exp":EXP,"nbf":"0"}`, want: TokenBadClaims},
		"iat five minutes ahead":       {claims: `{"sub":"u","exp":EXP,"iat":1795377900}`},
		"iat further ahead":            {claims: `{"sub":"u","exp":EXP,"iat":1795377901}`, want: TokenNotYetValid},
		"iat ahead, no more leeway":    {config: lenient, claims: `{"sub":"u","exp":EXP,"iat":1795377901}`, want: TokenNotYetValid},
		"iat a list":                   {claims: `{"sub":"u","exp":EXP,"iat":[1]}`, want: TokenBadClaims},
		"user missing":                 {claims: `{"exp":EXP}`, want: TokenBadClaims},
		"user null":                    {claims: `{"exp":EXP,"sub":null}`, want: TokenBadClaims},
		"user empty":                   {claims: `{"exp":EXP,"sub":""}`, want: TokenBadClaims},
		"user a number":                {claims: `{"exp":EXP,"sub":42}`, want: TokenBadClaims},
		"user in upper case only":      {claims: `{"exp":EXP,"SUB":"u"}`, want: TokenBadClaims},
		"user of 128":                  {claims: `{"exp":EXP,"sub":"` + strings.Repeat("ł", 128) + `"}`},
		"user of 129":                  {claims: `{"exp":EXP,"sub":"` + strings.Repeat("a", 129) + `"}`, want: TokenBadClaims},
		"user with NUL":                {claims: `{"exp":EXP,"sub":"a\u0000b"}`, want: TokenBadClaims},
		"user with a line break":       {claims: `{"exp":EXP,"sub":"a\nb"}`, want: TokenBadClaims},
		"user with DEL":                {claims: `{"exp":EXP,"sub":"a` + "\x7f" + `"}`, want: TokenBadClaims},
		"user with a C1 control":       {claims: `{"exp":EXP,"sub":"a\u0085"}`, want: TokenBadClaims},
		"user not UTF-8":               {claims: `{"exp":EXP,"sub":"a` + "\xff" + `"}`, want: TokenMalformed},
		"user with half a surrogate":   {claims: `{"exp":EXP,"sub":"\ud800"}`, want: TokenMalformed},
		"user twice":                   {claims: `{"exp":EXP,"sub":"u","sub":"admin"}`, want: TokenMalformed},
		"user twice by escape":         {claims: `{"exp":EXP,"sub":"u","\u0073ub":"admin"}`, want: TokenMalformed},
		"user in two cases":            {claims: `{"exp":EXP,"sub":"u","SUB":"admin"}`},
		"rights with a name twice":     {claims: `{"exp":EXP,"sub":"u","bridge":{"a":1,"a":2}}`, want: TokenMalformed},
		"rights null":                  {claims: `{"exp":EXP,"sub":"u","bridge":null}`},
		"jti of 128":                   {claims: `{"exp":EXP,"sub":"u","jti":"` + strings.Repeat("a", 128) + `"}`},
		"jti of 129":                   {claims: `{"exp":EXP,"sub":"u","jti":"` + strings.Repeat("a", 129) + `"}`, want: TokenBadClaims},
		"jti a number":                 {claims: `{"exp":EXP,"sub":"u","jti":7}`, want: TokenBadClaims},
		"jti with a control character": {claims: `{"exp":EXP,"sub":"u","jti":"\t"}`, want: TokenBadClaims},
		"aud a number":                 {claims: `{"exp":EXP,"sub":"u","aud":7}`, want: TokenBadClaims},
		"aud a mixed list":             {claims: `{"exp":EXP,"sub":"u","aud":["a",7]}`, want: TokenBadClaims},
		"iss a list":                   {claims: `{"exp":EXP,"sub":"u","iss":["a"]}`, want: TokenBadClaims},
		"a list":                       {claims: `[]`, want: TokenMalformed},
		"null":                         {claims: `null`, want: TokenMalformed},
		"empty":                        {claims: ``, want: TokenMalformed},
		"something behind":             {claims: `{"exp":EXP,"sub":"u"}{}`, want: TokenMalformed},
		"issuer and audience":          {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":"bridge"}`},
		"audience in a list":           {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":["x","bridge"]}`},
		"another issuer":               {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example/","aud":"bridge"}`, want: TokenWrongIssuer},
		"no issuer":                    {config: strict, claims: `{"exp":EXP,"sub":"u","aud":"bridge"}`, want: TokenWrongIssuer},
		"another audience":             {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":"Bridge"}`, want: TokenWrongAudience},
		"an empty audience list":       {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example","aud":[]}`, want: TokenWrongAudience},
		"no audience":                  {config: strict, claims: `{"exp":EXP,"sub":"u","iss":"https://id.example"}`, want: TokenWrongAudience},
		"another user claim":           {config: named, claims: `{"exp":EXP,"uid":"u","https://example.org/rights":[1]}`},
		"only sub":                     {config: named, claims: `{"exp":EXP,"sub":"u"}`, want: TokenBadClaims},
	} {
		t.Run(name, func(t *testing.T) {
			if c.config.Secrets == nil {
				c.config.Secrets = []string{testSecret}
			}
			claims := strings.ReplaceAll(c.claims, "EXP", "1795381200")
			got, err := mustTokens(t, c.config).Verify(t.Context(), hs(t, claims))
			wantReason(t, err, c.want)
			if c.want == "" && got.User == "" {
				t.Error("no user")
			}
		})
	}
}

func claimsEnd(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}, Leeway: time.Minute})
	for ago, want := range map[time.Duration]time.Duration{-time.Hour: 0, -time.Second: 0, 0: time.Minute, 59 * time.Second: time.Minute} {
		exp := testNow.Add(-ago)
		got, err := tokens.Verify(t.Context(), hs(t, fmt.Sprintf(`{"sub":"u","exp":%d}`, exp.Unix())))
		if err != nil {
			t.Fatal(err)
		}
		if !got.Expires.Equal(exp.Add(want)) {
			t.Errorf("exp %s ago: it ends %s after its exp", ago, got.Expires.Sub(exp))
		}
	}
}

func claimsEndByYear9999(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}})
	for _, exp := range []string{"1e17", "1e308", "1e400", "9223372036854775807", "99999999999999999999999999"} {
		c, err := tokens.Verify(t.Context(), hs(t, `{"sub":"u","exp":`+exp+`}`))
		if err != nil || c.Expires.Format(time.RFC3339) != "9999-12-31T23:59:59Z" || c.Expires.Sub(testNow) <= 0 {
			t.Errorf("exp %s: %v, %v", exp, c.Expires, err)
		}
	}
}

func claimsInOtherUnits(t *testing.T) {
	tokens := mustTokens(t, TokenConfig{Secrets: []string{testSecret}})
	for claims, want := range map[string]string{
		`{"sub":"u","exp":1795381200000}`:                      "exp is in milliseconds",
		`{"sub":"u","exp":1795381200000.5}`:                    "exp is in milliseconds",
		`{"sub":"u","exp":1.7953812e12}`:                       "exp is in milliseconds",
		`{"sub":"u","exp":1795381200000000}`:                   "exp is in microseconds",
		`{"sub":"u","exp":1795381200000000000}`:                "exp is in nanoseconds",
		`{"sub":"u","exp":1795381200,"nbf":1795370000000}`:     "nbf is in milliseconds",
		`{"sub":"u","exp":1795381200,"iat":1795370000000}`:     "iat is in milliseconds",
		`{"sub":"u","exp":1000000000000,"iat":1795370000}`:     "exp is in milliseconds", // past, in any unit
		`{"sub":"u","exp":253402300799}`:                       "",
		`{"sub":"u","exp":4102444800,"iat":0,"nbf":946684800}`: "",
	} {
		_, err := tokens.Verify(t.Context(), hs(t, claims))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", claims, err, want)
		}
	}
}

func claimsFingerprint(t *testing.T) {
	k := testKeys()
	tokens := mustTokens(t, TokenConfig{PublicKeyPEM: pemOf(t, k.ec.Public())})
	of := func(token string) string {
		c, err := tokens.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return c.Token
	}
	token := signedBy(t, algES256, "", goodClaims, k.ec)
	again := signedBy(t, algES256, "", goodClaims, k.ec) // another signature of the same
	other := signedBy(t, algES256, "", `{"sub":"u","exp":1795381201}`, k.ec)
	if len(of(token)) != 2*fingerprintBytes || of(token) != of(again) || of(token) == of(other) {
		t.Errorf("%s, %s, %s", of(token), of(again), of(other))
	}
	if strings.Contains(token, of(token)) {
		t.Error("the fingerprint is a part of the token")
	}
}
