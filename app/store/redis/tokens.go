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

// The groups that a user's tokens name are kept with the user: the hash mailbox.tokens has
// a field for each token, by the token's fingerprint. Only that hash decides, and it
// changes in the same step as the user's sessions, revocations and erasure. A group's own
// list (groupKeys.named) is an index: it lists the users whose hashes are to be read, and
// may list too many. Whoever has changed a hash updates the index afterwards (see
// Store.reindex), so that both agree in the end even if several change them at once.

// tokenGroups are the groups that one token names, and until when.
type tokenGroups struct {
	until   int64 // Unix milliseconds
	issued  int64 // Unix milliseconds; 0 for none
	tokenID string
	groups  []string
}

// tokenGroupsVersion begins a stored tokenGroups.
const tokenGroupsVersion = "1"

// lines encodes a list for lua/join.lua. Neither groups nor token ids have control
// characters in them.
func lines(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return "\n" + strings.Join(list, "\n")
}

func (s *tokenGroups) String() string {
	return tokenGroupsVersion + "\n" + itoa(s.until) + "\n" + itoa(s.issued) + "\n" + s.tokenID + lines(s.groups)
}

// parseTokenGroups decodes one. It returns the zero tokenGroups, of no group, for a text
// that cannot be read.
func parseTokenGroups(text string) (s tokenGroups) {
	part := strings.Split(text, "\n")
	if len(part) < 4 || part[0] != tokenGroupsVersion {
		return tokenGroups{}
	}
	var err error
	if s.until, err = strconv.ParseInt(part[1], 10, 64); err != nil {
		return tokenGroups{}
	}
	if s.issued, err = strconv.ParseInt(part[2], 10, 64); err != nil {
		return tokenGroups{}
	}
	s.tokenID, s.groups = part[3], part[4:]
	return s
}

// grants reports whether the token makes its user a member of a group now.
func (s *tokenGroups) grants(group string, now int64) bool {
	return s.until > now && slices.Contains(s.groups, group)
}

// indexMember is a user's token in a group's list.
func indexMember(user, token string) string { return user + "\n" + token }

func splitIndexMember(indexMember string) (user, token string) {
	user, token, _ = strings.Cut(indexMember, "\n")
	return user, token
}

// issuedMs is when a token was issued, 0 for none.
func issuedMs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// indexCommands are the commands that put a user's token on the lists of groups.
func (s *Store) indexCommands(user, token string, until int64, groups []string) rueidis.Commands {
	cmds := rueidis.Commands{s.client.B().Sadd().Key(s.mailboxOf(user).groups()).Member(groups...).Build()}
	for _, g := range groups {
		cmds = append(cmds, s.client.B().Zadd().Key(s.groupKeys(g).named).Gt().ScoreMember().ScoreMember(float64(until), indexMember(user, token)).Build())
	}
	return cmds
}

// reindexTries bounds how often a token's groups may change while reindex runs.
const reindexTries = 8

// reindex puts a user's token on the lists of those of the groups that the token names,
// and takes it off the others.
func (s *Store) reindex(ctx context.Context, user, token string, groups []string) error {
	if len(groups) == 0 {
		return nil
	}
	read := func() (string, error) {
		text, err := s.client.Do(ctx, s.client.B().Hget().Key(s.mailboxOf(user).tokens()).Field(token).Build()).ToString()
		return text, s.fault(ctx, err)
	}
	text, err := read()
	for range reindexTries {
		if err != nil {
			return err
		}
		tg, now := parseTokenGroups(text), s.nowMs()
		var cmds rueidis.Commands
		var named []string
		for _, g := range groups {
			if tg.grants(g, now) {
				named = append(named, g)
			} else {
				cmds = append(cmds, s.client.B().Zrem().Key(s.groupKeys(g).named).Member(indexMember(user, token)).Build())
			}
		}
		if len(named) > 0 {
			cmds = append(cmds, s.indexCommands(user, token, tg.until, named)...)
		}
		if err := s.do(ctx, cmds...); err != nil {
			return err
		}
		was := text
		if text, err = read(); err == nil && text == was {
			return nil
		}
	}
	return err
}

// indexGroups puts a session's token on the lists of its groups. lua/join.lua has stored
// the groups with the user.
func (s *Store) indexGroups(ctx context.Context, m bridge.Member) error {
	if len(m.Groups) == 0 || m.Until.UnixMilli() <= s.nowMs() {
		return nil
	}
	if err := s.do(ctx, s.indexCommands(m.User, m.Token, m.Until.UnixMilli(), m.Groups)...); err != nil {
		return err
	}
	// Somebody who has taken the groups from the token meanwhile may have updated the index
	// before it was written here.
	text, err := s.client.Do(ctx, s.client.B().Hget().Key(s.mailboxOf(m.User).tokens()).Field(m.Token).Build()).ToString()
	if err = s.fault(ctx, err); err != nil {
		return err
	}
	tg, now := parseTokenGroups(text), s.nowMs()
	for _, g := range m.Groups {
		if !tg.grants(g, now) {
			return s.reindex(ctx, m.User, m.Token, m.Groups)
		}
	}
	return nil
}

// unindexGroups updates the lists of groups that a user's tokens named before a script
// changed that. list is the script's answer: tokens, each followed by the tokenGroups that
// it had.
func (s *Store) unindexGroups(ctx context.Context, user string, list []rueidis.RedisMessage) error {
	for i := 0; i+1 < len(list); i += 2 {
		token, err := list[i].ToString()
		if err != nil {
			return s.fault(ctx, err)
		}
		if token == "" {
			continue
		}
		text, err := list[i+1].ToString()
		if err != nil {
			return s.fault(ctx, err)
		}
		tg := parseTokenGroups(text)
		if err := s.reindex(ctx, user, token, tg.groups); err != nil {
			return err
		}
	}
	return nil
}

// tokensOf are the groups that a user's tokens name, by the tokens' fingerprints.
func (s *Store) tokensOf(ctx context.Context, user string) (map[string]tokenGroups, error) {
	fields, err := s.client.Do(ctx, s.hgetall(s.mailboxOf(user).tokens())).AsStrMap()
	if err = s.fault(ctx, err); err != nil {
		return nil, err
	}
	out := make(map[string]tokenGroups, len(fields))
	for token, text := range fields {
		out[token] = parseTokenGroups(text)
	}
	return out, nil
}

// byToken lists the users whose tokens name a group now. named is the group's list.
func (s *Store) byToken(ctx context.Context, group string, named []string) ([]string, error) {
	texts, err := repliesOf(ctx, s, named, func(member string) rueidis.Completed {
		user, token := splitIndexMember(member)
		return s.client.B().Hget().Key(s.mailboxOf(user).tokens()).Field(token).Build()
	}, (*rueidis.RedisResult).ToString)
	if err != nil {
		return nil, err
	}
	var out []string
	now := s.nowMs()
	for i, text := range texts {
		if tg := parseTokenGroups(text); tg.grants(group, now) {
			user, _ := splitIndexMember(named[i])
			out = append(out, user)
		}
	}
	return out, nil
}
