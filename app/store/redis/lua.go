package redis

import (
	"regexp"
	"strings"
)

// Redis compiles each script once a life, and runs its text from the top each time. A
// script therefore has no comments in it, and only those statements of the libraries
// (lua/lib.lua and others) that it uses.

// statement is a top-level statement of a library. It begins at the start of a line, with
// local or if.
type statement struct {
	text  string
	names []string // that it declares; where it declares none, every script has it
}

var declaration = regexp.MustCompile(`^local (?:function )?(\w+(?:, \w+)*)`)

// betweenWords tells what is no part of a name.
func betweenWords(r rune) bool {
	return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// statementsOf takes a library apart.
func statementsOf(library string) []statement {
	var list []statement
	for line := range strings.Lines(library) {
		switch text := strings.TrimSpace(line); {
		case text == "", strings.HasPrefix(text, "--"):
		case strings.HasPrefix(line, "local "), strings.HasPrefix(line, "if "):
			s := statement{text: text + "\n"}
			if names := declaration.FindStringSubmatch(text); names != nil {
				s.names = strings.Split(names[1], ", ")
			}
			list = append(list, s)
		default:
			list[len(list)-1].text += text + "\n"
		}
	}
	return list
}

// linked returns a script with the statements of libraries that it uses before it. A name
// is declared before it is used, so that one pass from the end finds them all.
func linked(script string, libraries ...string) string {
	var available []statement
	for _, l := range libraries {
		available = append(available, statementsOf(l)...)
	}
	used := map[string]bool{}
	text := ""
	add := func(more string) {
		text = more + text
		for name := range strings.FieldsFuncSeq(more, betweenWords) {
			used[name] = true
		}
	}
	add(withoutComments(script))
	for i := len(available) - 1; i >= 0; i-- {
		needed := available[i].names == nil
		for _, name := range available[i].names {
			needed = needed || used[name]
		}
		if needed {
			add(available[i].text)
		}
	}
	return text
}

// withoutComments leaves out lines that are comments, and indentation.
func withoutComments(script string) string {
	var out strings.Builder
	for line := range strings.Lines(script) {
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "--") {
			out.WriteString(text + "\n")
		}
	}
	return out.String()
}
