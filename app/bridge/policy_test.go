package bridge

import (
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	t.Run("matches the users that its patterns name", policyPatterns)
	t.Run("covers a message to all only by the pattern *", policyCoversAll)
	t.Run("is read strictly from its claim", policyIsReadStrictly)
}

func policyPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, user string
		want          bool
	}{
		{"patient-*", "patient-42", true}, {"patient-*", "patient-", true}, {"patient-*", "xpatient-1", false},
		{"*", "anyone", true}, {"*-42", "patient-42", true}, {"p*-*2", "patient-42", true}, {"p*-*3", "patient-42", false},
		{"patient-42", "patient-42", true}, {"patient-42", "patient-421", false}, {"", "a", false}, {"a**b", "ab", true},
		{"group:*", "group:a", false}, {"group:ward-3", "group:ward-3", false}, {"*a*a*a*", strings.Repeat("a", 128), true},
		{"患者-*", "患者-七", true}, {"?", "a", false},
	} {
		if got := matchUser(c.pattern, c.user); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.user, got)
		}
	}
}

func policyCoversAll(t *testing.T) {
	all := Target{All: true}
	for send, want := range map[string]bool{"*": true, "**": false, "patient-*": false, "": false, "group:*": false} {
		if got := (Policy{Send: []string{send}}).MaySend(all); got != want {
			t.Errorf("%q: %v", send, got)
		}
	}
	p := Policy{Send: []string{"patient-*"}}
	if !p.MaySend(Target{Users: []string{"patient-1", "patient-2"}}) || p.MaySend(Target{Users: []string{"patient-1", "doctor-2"}}) || p.MaySend(Target{}) {
		t.Error("several users are covered only when each one is")
	}
	if (Policy{}).MaySend(Target{User: "patient-1"}) {
		t.Error("a token without rights may send")
	}
}

func policyIsReadStrictly(t *testing.T) {
	p, err := ParsePolicy([]byte(`{"send":["patient-*"],"groups":["ward-3"],"admin":["presence"]}`))
	if err != nil || len(p.Send) != 1 || len(p.Groups) != 1 || len(p.Admin) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := ParsePolicy(nil); err != nil || p.Send != nil {
		t.Errorf("no claim: %+v, %v", p, err)
	}
	for _, bad := range []string{`"*"`, `{"send":"*"}`, `{"send":[7]}`, `{"send":["a"],"send":["*"]}`, `[]`, `{`} {
		if p, err := ParsePolicy([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, p)
		}
	}
}

func FuzzMatchUser(f *testing.F) {
	f.Add("patient-*", "patient-42")
	f.Add("*a*b", "aabb")
	f.Fuzz(func(t *testing.T, pattern, user string) {
		if len(pattern) > 256 || len(user) > 256 {
			return
		}
		if matchUser(pattern, user) && !strings.Contains(pattern, "*") && pattern != user {
			t.Errorf("%q matches %q", pattern, user)
		}
	})
}
