# Everything is found from the folders: a new command, daemon or plugin is
# built, installed and tested because it is there.

SHELL    := bash
.SHELLFLAGS := -euo pipefail -c
GO       ?= go
prefix   ?= /usr/local
GOBUILD  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w"
module   := github.com/sluice-hpc/sluice
# Packages whose tests run under the race detector; the rest (a database, whole
# clusters of built binaries) would spend minutes on it and share no memory.
plain    := /plugins/accounting_storage/|/daemons/e2e$$|/contrib/
TESTFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help build test lint gen demo bench bench-peer man install clean deps-go deps-test deps-lint

help: ## show what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# mains PATTERN...: the packages of these folders that are programs
mains = $$($(GO) list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' $(1))

build: deps-go ## build every program into build/{bin,sbin,libexec/sluice}
	@mkdir -p build/bin build/sbin build/libexec/sluice build/share/sluice
	@list="$(call mains,./tools/...)"; [ -z "$$list" ] || $(GOBUILD) -o build/bin/ $$list
	@list=$$(for p in $(call mains,./daemons/...); do case $$p in */slurmstepd) ;; *) echo $$p ;; esac; done); \
	[ -z "$$list" ] || $(GOBUILD) -o build/sbin/ $$list
	@list=$$(for p in $(call mains,./daemons/...); do case $$p in */slurmstepd) echo $$p ;; esac; done); \
	[ -z "$$list" ] || $(GOBUILD) -o build/libexec/sluice/ $$list
	@# one build a kind: names are unique only within one
	@tmp=$$(mktemp -d build/.kind.XXXXXX); trap 'rm -rf "$$tmp"' EXIT; \
	for dir in plugins/*/; do kind=$$(basename $$dir); \
		list="$(call mains,./$$dir...)"; [ -n "$$list" ] || continue; \
		mkdir $$tmp/$$kind; $(GOBUILD) -o $$tmp/$$kind/ $$list; \
		for f in $$tmp/$$kind/*; do mv -f $$f build/libexec/sluice/$${kind}_$$(basename $$f); done; \
	done
	@for main in plugins/*/*/main.py; do dir=$${main%/main.py}; kind=$${dir#plugins/}; \
		$(GO) run ./contrib/gen/pyplugin build/libexec/sluice/$${kind%/*}_$${dir##*/} $$main; done
	@chmod -R go-w build/bin build/sbin build/libexec
	@$(GO) run ./contrib/gen/authorkit build/share/sluice/src
	@rm -rf build/share/sluice/demo; [ ! -d contrib/demo ] || cp -r contrib/demo build/share/sluice/
	@echo "built: $$(ls build/bin | wc -l) commands, $$(ls build/sbin | wc -l) daemons, $$(($$(ls build/libexec/sluice | wc -l) - 1)) plugins and the shepherd, in build/"

test: build deps-test ## run every test, with the race detector where affordable
	@list=$$($(GO) list ./...); \
	$(GO) tool gotestsum --format pkgname --hide-summary skipped --raw-command -- bash -c ' \
		s=0; $(GO) test -json -race -timeout 20m $(TESTFLAGS) $$(grep -vE "$$0" <<<"$$1") || s=1; \
		$(GO) test -json -p 1 -timeout 20m $(TESTFLAGS) $$(grep -E "$$0" <<<"$$1" | grep -v /contrib/lint) || s=1; \
		for mod in contrib/examples/*/go.mod; do \
			$(GO) -C $${mod%/go.mod} build -o /dev/null . && $(GO) -C $${mod%/go.mod} test -json ./... || s=1; done; exit $$s' \
		'$(plain)' "$$list"

lint: deps-go deps-lint ## check the house rules: imports, docs, format, vet, staticcheck, generated code
	@$(GO) tool gotestsum --format testname -- -count=1 ./contrib/lint/...

gen: deps-go deps-lint ## regenerate the protobuf code and the wire converters
	contrib/gen/gen.sh

demo: build ## start a cluster of 4 nodes and run real jobs on it
	@build/bin/sluice demo

bench: build ## measure this tree: make bench [BENCH="-quick client srun"]
	@$(GO) build -o build/bench ./contrib/bench
	@build/bench -o build/bench.lines $(BENCH)

bench-peer: build ## install Debian's Slurm (root), measure both in turn [BENCH="srun steps"]
	contrib/bench/peer/both.sh $(BENCH)

man: build ## write the manual pages into build/share/man
	@$(GO) run ./contrib/man build contrib/docs/reference/slurm.conf.md

install: build man ## install into prefix=DIR [DESTDIR=], in Slurm's layout
	@d='$(DESTDIR)$(prefix)'; \
	install -d "$$d"/{bin,sbin,libexec/sluice,etc,share/man,share/sluice}; \
	install -m 755 build/bin/* "$$d/bin/"; \
	[ -z "$$(ls build/sbin)" ] || install -m 755 build/sbin/* "$$d/sbin/"; \
	install -m 755 build/libexec/sluice/* "$$d/libexec/sluice/"; \
	[ ! -d build/share/sluice ] || cp -r build/share/sluice/. "$$d/share/sluice/"; cp -r build/share/man/. "$$d/share/man/"; \
	install -d "$$d/share/sluice/"{examples,systemd}; \
	cp -r conf/examples/. "$$d/share/sluice/examples/"; \
	for f in contrib/systemd/*.service; do [ ! -f "$$f" ] || sed 's,@prefix@,$(prefix),g' "$$f" > "$$d/share/sluice/systemd/$$(basename $$f)"; done; \
	echo "installed in $$d"

clean: ## remove what was built
	rm -rf build

# --- what a fresh machine may lack ---

apt = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install $(1) >/dev/null; \
	else echo "make: please install: $(1)" >&2; exit 1; fi

deps-go:
	@command -v $(GO) >/dev/null || { echo "make: Go 1.26 or newer is needed (https://go.dev/dl)" >&2; exit 1; }
deps-test:
	@command -v cc >/dev/null || { $(call apt,gcc libc6-dev); }
	@/usr/bin/python3 -c 'import grpc, google.protobuf' 2>/dev/null || { $(call apt,python3-grpcio python3-protobuf); }
deps-lint:
	@command -v protoc >/dev/null || { $(call apt,protobuf-compiler); }
