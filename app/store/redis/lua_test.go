package redis

import (
	"regexp"
	"strings"
	"testing"
)

func TestScripts(t *testing.T) {
	t.Run("have what they use of the libraries, and no more", scriptsAreLinked)
	t.Run("have each statement of the libraries in one of them", scriptsUseTheLibraries)
}

func scriptsAreLinked(t *testing.T) {
	library := `-- What is shared.
local call = redis.call
if CURRENT then return 1 end

local YEAR, DAY = 365, 1 -- days
-- a needs b.
local function b()
  -- It says so.
  return { YEAR }
end
local function a() return b() end

local later
local function unused(a)
  return later
end
`
	const always = "local call = redis.call\nif CURRENT then return 1 end\n"
	const b = "local YEAR, DAY = 365, 1 -- days\nlocal function b()\nreturn { YEAR }\nend\n"
	for script, want := range map[string]string{
		"return 1\n":                   "if CURRENT then return 1 end\nreturn 1\n",
		"-- Says a.\nreturn call(1)\n": always + "return call(1)\n",
		"return call(a())\n":           always + b + "local function a() return b() end\nreturn call(a())\n",
		"  return call(b)\n":           always + b + "return call(b)\n",
		"later = call\n":               always + "local later\nlater = call\n",
	} {
		if got := linked(script, library); got != want {
			t.Errorf("%q becomes\n%s", script, got)
		}
	}
}

// A statement that no script has is dead, or was not recognized.
func scriptsUseTheLibraries(t *testing.T) {
	s, err := loadScripts()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, one := range s.all {
		all.WriteString(one.body)
		for _, global := range regexp.MustCompile(`(?m)^function (\w+)\(`).FindAllStringSubmatch(one.body, -1) {
			if !strings.Contains(one.body, "local "+global[1]+"\n") {
				t.Errorf("%s is not declared", global[1])
			}
		}
	}
	for _, name := range []string{"lib", "outbox_lib", "stretch"} {
		text, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range statementsOf(string(text)) {
			if !strings.Contains(all.String(), one.text) {
				t.Errorf("no script uses %v of %s.lua", one.names, name)
			}
		}
	}
}
