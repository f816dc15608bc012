package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"hookbridge/app/bridge"
)

// What tokens say of their users' groups stands with each user: the hash
// mailbox.tokens has a field for each token, by its fingerprint. That hash alone
// decides, and changes in the same step as the user's sessions, revocations and
// erasure do. A group's own list (groupKeys.named) is an index of it: it finds the
// users whose hash has to be asked, and may name too many. Where the two are
// changed at the same time from several sides, whoever has changed the hash makes
// the index agree (see Store.agree).

// saying is what one token says.
type saying struct {
	until   int64 // Unix milliseconds
	issued  int64 // Unix milliseconds; 0 for none
	tokenID string
	groups  []string
}

// sayingVersion begins what is kept of a saying.
const sayingVersion = "1"

// lines is a list as lua/lib.lua reads it. Neither groups nor token ids have
// control characters in them.
func lines(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return "\n" + strings.Join(list, "\n")
}

func (s *saying) String() string {
	return sayingVersion + "\n" + itoa(s.until) + "\n" + itoa(s.issued) + "\n" + s.tokenID + lines(s.groups)
}

// parseSaying reads one back; the zero saying, of no group, for what is none.
func parseSaying(text string) (s saying) {
	part := strings.Split(text, "\n")
	if len(part) < 4 || part[0] != sayingVersion {
		return saying{}
	}
	var err error
	if s.until, err = strconv.ParseInt(part[1], 10, 64); err != nil {
		return saying{}
	}
	if s.issued, err = strconv.ParseInt(part[2], 10, 64); err != nil {
		return saying{}
	}
	s.tokenID, s.groups = part[3], part[4:]
	return s
}

// names reports whether the token makes its user a member of a group now.
func (s *saying) names(group string, now int64) bool {
	return s.until > now && slices.Contains(s.groups, group)
}

// indexed is a user's token as the group's list has it.
func indexed(user, token string) string { return user + "\n" + token }

func userOf(indexed string) (user, token string) {
	user, token, _ = strings.Cut(indexed, "\n")
	return user, token
}

// issuedMs is when a token was issued, 0 for none.
func issuedMs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// listIn makes the lists of groups name a user, before it is known whether the
// token still says so.
func (e *Store) listIn(user, token string, until int64, groups []string) rueidis.Commands {
	cmds := rueidis.Commands{e.client.B().Sadd().Key(e.mailboxOf(user).groups()).Member(groups...).Build()}
	for _, g := range groups {
		cmds = append(cmds, e.client.B().Zadd().Key(e.groupKeys(g).named).Gt().ScoreMember().ScoreMember(float64(until), indexed(user, token)).Build())
	}
	return cmds
}

// agreeTries bounds how often a token's groups may change while agree looks.
const agreeTries = 8

// agree makes the lists of groups name a user exactly where the token does.
func (e *Store) agree(ctx context.Context, user, token string, groups []string) error {
	if len(groups) == 0 {
		return nil
	}
	read := func() (string, error) {
		text, err := e.client.Do(ctx, e.client.B().Hget().Key(e.mailboxOf(user).tokens()).Field(token).Build()).ToString()
		return text, e.fault(ctx, err)
	}
	text, err := read()
	for range agreeTries {
		if err != nil {
			return err
		}
		s, now := parseSaying(text), e.nowMs()
		var cmds rueidis.Commands
		var named []string
		for _, g := range groups {
			if s.names(g, now) {
				named = append(named, g)
			} else {
				cmds = append(cmds, e.client.B().Zrem().Key(e.groupKeys(g).named).Member(indexed(user, token)).Build())
			}
		}
		if len(named) > 0 {
			cmds = append(cmds, e.listIn(user, token, s.until, named)...)
		}
		if err := e.do(ctx, cmds...); err != nil {
			return err
		}
		was := text
		if text, err = read(); err == nil && text == was {
			return nil
		}
	}
	return err
}

// belong has the groups of a session's token name its user. The script of the
// join has written down what the token says.
func (e *Store) belong(ctx context.Context, m bridge.Member) error {
	if len(m.Groups) == 0 || m.Until.UnixMilli() <= e.nowMs() {
		return nil
	}
	if err := e.do(ctx, e.listIn(m.User, m.Token, m.Until.UnixMilli(), m.Groups)...); err != nil {
		return err
	}
	// Whoever has taken the token's word back meanwhile may have been here before
	// the index was written.
	text, err := e.client.Do(ctx, e.client.B().Hget().Key(e.mailboxOf(m.User).tokens()).Field(m.Token).Build()).ToString()
	if err = e.fault(ctx, err); err != nil {
		return err
	}
	s, now := parseSaying(text), e.nowMs()
	for _, g := range m.Groups {
		if !s.names(g, now) {
			return e.agree(ctx, m.User, m.Token, m.Groups)
		}
	}
	return nil
}

// takenBack takes the lists of groups back to what tokens of a user say, of which
// a script has told what they said before: token and saying, by turns.
func (e *Store) takenBack(ctx context.Context, user string, list []rueidis.RedisMessage) error {
	for i := 0; i+1 < len(list); i += 2 {
		token, err := list[i].ToString()
		if err != nil {
			return e.fault(ctx, err)
		}
		text, err := list[i+1].ToString()
		if err != nil {
			return e.fault(ctx, err)
		}
		s := parseSaying(text)
		if err := e.agree(ctx, user, token, s.groups); err != nil {
			return err
		}
	}
	return nil
}

// sayings are what all tokens of a user say, by fingerprint.
func (e *Store) sayings(ctx context.Context, user string) (map[string]saying, error) {
	fields, err := e.client.Do(ctx, e.client.B().Hgetall().Key(e.mailboxOf(user).tokens()).Build()).AsStrMap()
	if err = e.fault(ctx, err); err != nil {
		return nil, err
	}
	out := make(map[string]saying, len(fields))
	for token, text := range fields {
		out[token] = parseSaying(text)
	}
	return out, nil
}

// byToken lists those whom tokens make members of a group now, of those whom its
// list names.
func (e *Store) byToken(ctx context.Context, group string, named []string) ([]string, error) {
	if len(named) == 0 {
		return nil, nil
	}
	cmds := make(rueidis.Commands, len(named))
	for i, n := range named {
		user, token := userOf(n)
		cmds[i] = e.client.B().Hget().Key(e.mailboxOf(user).tokens()).Field(token).Build()
	}
	var out []string
	now := e.nowMs()
	for i, r := range e.doMany(ctx, cmds) {
		text, err := r.ToString()
		if err = e.fault(ctx, err); err != nil {
			return nil, err
		}
		if s := parseSaying(text); s.names(group, now) {
			user, _ := userOf(named[i])
			out = append(out, user)
		}
	}
	return out, nil
}
