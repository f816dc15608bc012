# make test is all that a contributor needs; CI runs it, and lint and allocs.
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 1000x
export HOOKBRIDGE_ARTIFACTS ?= $(CURDIR)/build

.PHONY: test page suite test-short allocs lint fuzz soak tools build bench

# Everything that the tests compile has the same flags, the commands of the README and
# the fuzzers too, so that a dependency is compiled once. The race detector watches all
# but two of them: SQLite's own code, translated from C, in which each connection has its
# memory for itself (our VFS and the driver around it are watched), and the Redis client's
# generated command builders, which take a third of the time to compile this way. The
# compiler's own garbage is collected less often, which is a quarter of its work.
RACEFLAGS = '-toolexec=env GOGC=400' -race -gcflags=github.com/ncruces/go-sqlite3-wasm/...=-race=false '-gcflags=github.com/redis/rueidis/internal/cmds=-race=false -N -l'

# A program with the race detector would wait for a second more when it ends.
export GORACE ?= atexit_sleep_ms=10

# The hidden page waits for a browser's real minutes: it begins first, and the rest runs
# beside it. vet runs in lint.
test: export GOFLAGS = $(RACEFLAGS)
test: tools
	@mkdir -p "$(HOOKBRIDGE_ARTIFACTS)"
	$(GO) test -vet=off -c -o "$(HOOKBRIDGE_ARTIFACTS)/page.test" ./handlers/web/webtest
	@$(MAKE) --no-print-directory -j 2 page suite

page:
	cd handlers/web/webtest && "$(HOOKBRIDGE_ARTIFACTS)/page.test" -test.v -test.timeout 20m

suite:
	$(GO) test -vet=off -p 4 -timeout 20m $$($(GO) list ./... | grep -v /webtest$$)
	@$(MAKE) --no-print-directory fuzz

# The core of every package, in a minute: for the desk, between two edits.
test-short: tools
	@mkdir -p "$(HOOKBRIDGE_ARTIFACTS)"
	$(GO) test -short -vet=off -p 4 ./...

# Fails when a message or a connect allocates more than app/e2e/allocs allows. The race
# detector allocates for itself, so this runs without it, on what vet has compiled before.
allocs:
	$(GO) test -vet=off -count 1 ./app/e2e/allocs

# Each parser is fuzzed for a moment (FUZZTIME); what it finds stays in testdata. A number
# of runs instead of a time: at the end of a time Go before 1.27 may report a failure
# where there is none (go.dev/issue/75804). go test -fuzz would link a binary for each
# target and compile every dependency anew, with counters in it; here a package has one
# binary, and counters stand in our code.
fuzz:
	@set -e; bin=$$(mktemp -d); trap 'rm -rf "$$bin"' EXIT; corpus=$$($(GO) env GOCACHE)/fuzz; \
	targets=$$(grep -r --include='*_test.go' '^func Fuzz' app auth handlers | sed -E 's,/[^/]*:func (Fuzz[A-Za-z0-9_]*).*, \1,'); \
	$(GO) test -c -vet=off -gcflags=hookbridge/...=-d=libfuzzer -o "$$bin/" $$(echo "$$targets" | sed 's, .*,,; s,^,./,' | sort -u); \
	echo "$$targets" | xargs -P 2 -L 1 sh -c 'cd "$$2"; echo "fuzz $$2 $$3"; \
	  exec "$$0/$$(basename "$$2").test" -test.run "^$$" -test.fuzz "^$$3\$$" -test.fuzztime $(FUZZTIME) -test.parallel 1 -test.fuzzcachedir "$$1/hookbridge/$$2"' "$$bin" "$$corpus"

# Random faults under a random load, on both stores, judged against the promises.
# make soak DUR=1h · SEED=7 repeats a schedule · ENGINE=sqlite or redis · FAULTS=all,
# norewind, or names with commas between · RATE=150 operations a second at most ·
# RACE=1 runs the program with the race detector · KEEP=DIR keeps the embedded store's
# files there where something was found.
DUR ?= 10m
RATE ?= 150
soak: tools
	SOAK_DUR=$(DUR) SOAK_SEED=$(SEED) SOAK_ENGINE=$(ENGINE) SOAK_FAULTS=$(FAULTS) SOAK_RATE=$(RATE) SOAK_KEEP=$(KEEP) \
	  $(GO) test $(if $(RACE),-race) -run '^TestSoak$$' -count 1 -v -timeout 0 ./app/e2e/soak

lint: export GOGC ?= 400
lint:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) build -o /dev/null ./app
	$(GO) run $(STATICCHECK) ./...

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o build/hookbridge ./app

bench:
	$(GO) test -run '^$$' -bench . -benchtime 2s -count 5 ./app/store/... ./auth ./app/e2e ./app/e2e/allocs

# What the tests drive beside Go: Chromium for the page (without windows it takes half as much), openssl, curl, Node and
# Python for the tour in the README, npm for the browser client's package, Redis for the distributed store, a C compiler
# for the race detector.
tools:
	@missing=; \
	{ command -v chromium-headless-shell || command -v chromium; } >/dev/null 2>&1 || missing=" chromium-headless-shell"; \
	for t in openssl:openssl curl:curl node:nodejs npm:npm python3:python3 redis-server:redis-server cc:gcc; do \
	  command -v $${t%%:*} >/dev/null 2>&1 || missing="$$missing $${t##*:}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "installing$$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing fonts-noto-cjk >/dev/null; \
	else echo "the tests need these Debian packages; install them with: sudo apt-get install$$missing"; exit 1; fi
