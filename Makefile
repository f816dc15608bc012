# make test is all that a contributor needs; CI runs the same.
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 3s
export HOOKBRIDGE_ARTIFACTS ?= $(CURDIR)/build

.PHONY: test lint fuzz soak tools build bench

test: tools
	@mkdir -p "$(HOOKBRIDGE_ARTIFACTS)"
	$(GO) test -race -p 4 -timeout 20m ./...
	@$(MAKE) --no-print-directory fuzz

# Each parser is fuzzed for a few seconds; what it finds stays in testdata.
fuzz:
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "fuzz $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; done

# Random faults under a random load, on both engines, judged against the promises.
# make soak DUR=1h · SEED=7 repeats a schedule · ENGINE=sqlite or redis · FAULTS=all,
# norewind, or names with commas between · RATE=150 operations a second at most ·
# RACE=1 builds the program with the race detector.
DUR ?= 10m
soak: tools
	SOAK_DUR=$(DUR) SOAK_SEED=$(SEED) SOAK_ENGINE=$(ENGINE) SOAK_FAULTS=$(FAULTS) SOAK_RATE=$(RATE) SOAK_RACE=$(RACE) \
	  $(GO) test -run '^TestSoak$$' -count 1 -v -timeout 0 ./app/e2e/soak

lint:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o build/hookbridge ./app

bench:
	$(GO) test -run '^$$' -bench . -benchtime 2s -count 5 ./app/store/... ./auth ./app/e2e

# What the tests drive beside Go: Chromium for the page, openssl, curl, Node and
# Python for the tour in the README, npm for the browser client's package, Redis for the distributed engine, a C compiler
# for the race detector.
tools:
	@missing=; \
	for t in chromium:chromium openssl:openssl curl:curl node:nodejs npm:npm python3:python3 redis-server:redis-server redis-cli:redis-tools cc:gcc; do \
	  command -v $${t%%:*} >/dev/null 2>&1 || missing="$$missing $${t##*:}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	  echo "installing$$missing"; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing fonts-noto-cjk >/dev/null; \
	else echo "the tests need these Debian packages; install them with: sudo apt-get install$$missing"; exit 1; fi
