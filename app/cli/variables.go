package cli

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"hookbridge/app/server"

	"github.com/alecthomas/kong"
)

// unreadableSettings tells, where a command could not be parsed, of all variables
// that hold no value of their kind; and, of serve, what is wrong beside them. From then
// on the parser passes those variables over, as if they were not set.
func unreadableSettings(parser *kong.Kong, c *commands, args []string) (all server.Faults) {
	for _, node := range parser.Model.Children {
		if !slices.Contains(args, node.Name) {
			continue
		}
		if all = unreadable(node); len(all) == 0 {
			return nil
		}
		if _, err := parser.Parse(args); err == nil && node.Name == "serve" {
			all = append(all, c.Serve.Faults()...)
		}
		return all
	}
	return nil
}

// showRanges puts the ranges into the help.
func showRanges(k *kong.Kong) error {
	return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			if low, high, ok := strings.Cut(f.Tag.Get("range"), ".."); ok {
				f.Help = strings.TrimSuffix(f.Help, ".") + ", from " + low + " to " + high + "."
			}
		}
		return next(nil)
	})
}

// unreadable finds the variables of a command that hold what is no value of their
// kind, all of them, and takes them off its flags. What they hold is not repeated: a
// secret may have gone into the wrong variable.
func unreadable(command *kong.Node) (all server.Faults) {
	for _, f := range command.Flags {
		for _, name := range f.Envs {
			text, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			if why := misread(f, text); why != "" {
				all.Add("%s %s", name, why)
				f.Envs, f.Tag.Envs = nil, nil
			}
		}
	}
	return all
}

// misread says why a text is no value of a flag; empty where it is one.
func misread(f *kong.Flag, text string) string {
	kind, err := "", error(nil)
	switch f.Target.Interface().(type) {
	case time.Duration:
		kind = "a length of time, such as 25s, 15m or 72h"
		_, err = time.ParseDuration(text)
	case int:
		kind = "a whole number"
		_, err = strconv.Atoi(text)
	case float64:
		kind = "a number"
		_, err = strconv.ParseFloat(text, 64)
	case bool:
		kind = "true or false"
		_, err = strconv.ParseBool(text)
	default:
		if f.Enum == "" || f.EnumMap()[text] {
			return ""
		}
		kind, err = "one of "+f.Enum, errors.New("none of them")
	}
	switch {
	case err == nil:
		return ""
	case text == "":
		return "is empty: unset it, or set it to " + kind + " (default " + f.Default + ")"
	}
	return "must be " + kind + " (default " + f.Default + ")"
}
