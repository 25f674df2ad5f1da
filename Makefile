# make run     starts Faultline; it prints the URL of its pages and where to send OTLP
# make demo    the same with a simulated shop that calls and fails
# make test    installs what the tests need, then runs every test
# make check   format, vet, lint, module files, generated files, vulnerability scan
# make help    every target

SHELL         := bash
.SHELLFLAGS   := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS     += --no-print-directory

export CGO_ENABLED := 0

BIN       := $(CURDIR)/bin
CACHE     := $(CURDIR)/.cache
COLLECTOR := $(BIN)/faultline-collector
TALLY     := $(CACHE)/bin/tally
CLIENTS   := $(CACHE)/clients
FUZZTIME  ?= 30s
BENCHTIME ?= 1s
PACKAGES  ?= ./...

# Packages with tests that need the built binary, a browser or foreign clients carry the build tag e2e.
E2E_PACKAGES = $(addprefix ./,$(shell git grep -lE '^//go:build e2e' -- '*_test.go' | xargs -r -n1 dirname | sort -u))

.PHONY: help run demo build test race e2e fuzz bench check fmt format vet lint modules generate generated vuln setup clients clean

help: ## this list
	@grep -hE '^[a-z0-9]+:.*## ' Makefile | sed -E 's/^([a-z0-9]+):.*## /\1\t/' | expand -t 12

run: build ## build, and start everything in one process on the embedded store
	@exec $(COLLECTOR)

demo: build ## the same, plus a traffic simulator
	@exec $(COLLECTOR) demo

build: ## build the static binaries into bin/
	@mkdir -p $(BIN)
	for cmd in $(notdir $(wildcard cmd/*)); do
		go build -trimpath -ldflags '-s -w' -o $(BIN)/faultline-$$cmd ./cmd/$$cmd
	done

# --- tests ------------------------------------------------------------------------------------------------------------

# One run with the race detector over all unit tests, then one without it over what carries the tag e2e. Foreign clients
# that could be fetched are required: their tests may not skip. tally shows the runner's closing lines, and counts.
# -trimpath in the second run because the binary has it: what both need is compiled once.
test: setup ## every test: unit and race, real browser, real clients
	@go -C tools/tally test ./... && go -C tools/tally build -o $(TALLY) .
	race=-race; export CGO_ENABLED=1
	if ! command -v gcc >/dev/null; then
		race= CGO_ENABLED=0
		echo 'test: no C compiler, so WITHOUT the race detector' >&2
	fi
	{
		failed=0
		go test -json $$race -timeout 10m $(PACKAGES) || failed=1
		export CGO_ENABLED=0 FAULTLINE_COLLECTOR=$(COLLECTOR) FAULTLINE_CLIENTS=$(CLIENTS) FAULTLINE_REQUIRE_CLIENTS=0
		if $(MAKE) clients; then FAULTLINE_REQUIRE_CLIENTS=1; fi
		$(MAKE) build || failed=1
		go test -json -trimpath -count=1 -p 1 -timeout 10m -tags e2e $(E2E_PACKAGES) || failed=1
		exit $$failed
	} | $(TALLY)

race: ## unit tests with the race detector
	@CGO_ENABLED=1 go test -race $(PACKAGES)

e2e: build clients ## browser and real-client tests alone
	@FAULTLINE_COLLECTOR=$(COLLECTOR) FAULTLINE_CLIENTS=$(CLIENTS) go test -trimpath -count=1 -p 1 -tags e2e $(E2E_PACKAGES)

fuzz: ## every fuzz target for FUZZTIME
	@git grep -oE '^func Fuzz\w+' -- '*_test.go' | while IFS=: read -r file decl; do
		echo "fuzz: $$file $${decl#func }"
		go test -run '^$$' -fuzz "^$${decl#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")"
	done

# Go's own benchmarks, and how a browser pans a large map; then CPU time per span beside two Collectors, alternating, as
# ratios of one run; then how old the live map is, and memory under a steady load and under names without end.
bench: build ## the benchmarks, the cost per span against the peers', freshness and memory
	@go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) $(PACKAGES)
	go test -count=1 -run '^TestLargeMapInBrowser$$' -v ./web
	go -C bench/peers build -o $(BIN)/peers .
	go run ./bench -peers $(BIN)/peers -collector $(COLLECTOR)
	for mode in fresh steady hostile; do go run ./bench -mode $$mode -for 10m -collector $(COLLECTOR); done

# What the machine must have, and what only the end-to-end tests need: HotROD from its Go module, the JavaScript SDK by
# its lock file. Both are pinned with checksums and fetched once.
setup:
	@.ci/setup

clients: $(CLIENTS)/hotrod $(CLIENTS)/js/node_modules/.package-lock.json

$(CLIENTS)/hotrod: tools/hotrod/go.mod tools/hotrod/go.sum
	@mkdir -p $(@D)
	go -C tools/hotrod build -o $@ github.com/jaegertracing/jaeger/examples/hotrod

$(CLIENTS)/js/node_modules/.package-lock.json: internal/e2e/testdata/js/package.json internal/e2e/testdata/js/package-lock.json
	@mkdir -p $(CLIENTS)/js
	cp $^ $(CLIENTS)/js/
	npm --prefix $(CLIENTS)/js ci --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

# --- checks -----------------------------------------------------------------------------------------------------------

check: fmt vet lint modules generated vuln ## what a change must pass beside the tests

fmt: $(CACHE)/bin/gofumpt ## formatted as gofumpt does
	@unformatted=$$($< -l $$(git ls-files '*.go' | grep -v _templ.go))
	if [ -n "$$unformatted" ]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi

format: $(CACHE)/bin/gofumpt ## format in place
	@git ls-files '*.go' | grep -v _templ.go | xargs $< -w

vet: ## go vet, with and without the end-to-end tests
	@go vet ./...
	go vet -tags e2e ./...

lint: $(CACHE)/bin/golangci-lint ## golangci-lint by .golangci.yml
	@$< run ./...

modules: ## go.mod and go.sum are tidy and true
	@go mod tidy -diff
	go mod verify

generate: ## templ components and the assets of the pages
	@go generate ./...

generated: ## what is generated and committed is up to date
	@state() { git status --porcelain; git diff; }
	before=$$(state)
	$(MAKE) generate
	if [ "$$before" != "$$(state)" ]; then
		git --no-pager diff --stat
		echo 'generated files were not up to date: commit what make generate made'
		exit 1
	fi

# The database is a URL, a folder or an archive of one; where there is none, that is said and nothing more.
vuln: $(CACHE)/bin/govulncheck ## known vulnerabilities, by the database FAULTLINE_VULNDB names
	@db=$${FAULTLINE_VULNDB:-}
	case "$$db" in
	'') echo 'vuln: SKIPPED, no vulnerability database: set FAULTLINE_VULNDB to its URL, a folder or a .tgz'; exit 0 ;;
	*.tgz)
		folder=$(CACHE)/vulndb
		rm -rf "$$folder" && mkdir -p "$$folder" && tar -xzf "$$db" -C "$$folder"
		index=$$(find "$$folder" -path '*/index/db.json' | head -n 1)
		db=file://$${index%/index/db.json} ;;
	*://*) ;;
	*) db=file://$$(realpath "$$db") ;;
	esac
	$< -db "$$db" ./...

$(CACHE)/bin/%: tools/%/go.mod tools/%/go.sum
	@mkdir -p $(@D)
	echo "building $*"
	go -C tools/$* build -o $@ $$(awk '$$1 == "tool" {print $$2}' $<)

clean: ## remove what was built and fetched
	@rm -rf $(BIN) $(CACHE)
