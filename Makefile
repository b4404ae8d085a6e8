# SPDX-License-Identifier: Apache-2.0
# `make` builds programs into bin/ and the guest image into bin/guest/.
# `make help` lists the targets. On Debian, as root, missing packages are
# installed; elsewhere their absence is an error that names them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOBUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
say     := @printf '==> %s\n'

.PHONY: all
all: programs plugins guest builder ## build everything (the default)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: packages
packages:
	@build/packages build

# --- programs ---------------------------------------------------------------

.PHONY: programs
programs: packages ## the host's programs
	$(say) 'programs: byre, byred, containerd-shim-byre-v1'
	@mkdir -p bin
	@$(GOBUILD) -o bin/byre ./cmd/byre
	@$(GOBUILD) -o bin/byred ./cmd/byred
	@$(GOBUILD) -tags no_grpc -o bin/containerd-shim-byre-v1 ./cmd/containerd-shim-byre-v1

# Each has a module of its own: what they need is none of byre's.
.PHONY: plugins
plugins: bin/cli-plugins/docker-compose bin/cli-plugins/docker-buildx ## docker's compose and buildx

bin/cli-plugins/docker-compose: plugins/compose/go.mod plugins/compose/main.go | packages
	$(say) 'plugins: compose'
	@mkdir -p bin/cli-plugins
	@cd plugins/compose && version=$$($(GO) list -m -f '{{.Version}}' github.com/docker/compose/v5) && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.version=$$version -X github.com/docker/compose/v5/internal.Version=$$version" -o ../../$@ .

bin/cli-plugins/docker-buildx: plugins/buildx/go.mod | packages
	$(say) 'plugins: buildx'
	@mkdir -p bin/cli-plugins
	@cd plugins/buildx && CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false \
		-ldflags "-s -w -X github.com/docker/buildx/version.Version=$$($(GO) list -m -f '{{.Version}}' github.com/docker/buildx)" \
		-o ../../$@ github.com/docker/buildx/cmd/buildx

# --- guest image --------------------------------------------------------------

.PHONY: guest
guest: kernel bin/obj/runc ## kernel, initrd and scratch template
	$(say) 'guest image: initrd, scratch template, manifest'
	@mkdir -p bin/guest bin/obj
	@GOOS=linux $(GOBUILD) -o bin/obj/byre-init ./cmd/byre-init
	@$(GO) run ./cmd/mkguest -build '$(VERSION)' -init bin/obj/byre-init -runc bin/obj/runc -out bin/guest

.PHONY: kernel
kernel: packages ## the guest's kernel, from the cache when it is there
	@kernel/build bin/guest

# runc depends on its module and on the filter that it is to know. It starts
# four times for each container: without checkpoints and the generation of manual
# pages, which nothing here asks for, each takes a quarter less.
runctags := seccomp netgo osusergo runc_nocriu urfave_cli_no_docs
bin/obj/runc: $(wildcard runc/go.* runc/*/*.go runc/*/go.*) bin/obj/seccomp.bin
	$(say) 'runc, static, with seccomp'
	@printf '{"Replace":{"%s/runc/libseccomp/known.bin":"%s/bin/obj/seccomp.bin"}}\n' "$$PWD" "$$PWD" >bin/obj/overlay.json
	@cd runc && CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -tags '$(runctags)' -overlay ../bin/obj/overlay.json \
		-ldflags '-s -w -linkmode external -extldflags "-static"' -o ../$@ github.com/opencontainers/runc

# The filter of usual containers, compiled.
bin/obj/seccomp.bin: go.mod $(wildcard runc/go.* runc/*/*.go runc/*/go.*) internal/engine/seccomp.go $(wildcard internal/engine/spec/*.go build/defaultfilter/*.go) | packages
	$(say) 'seccomp filter'
	@mkdir -p bin/obj
	@CGO_ENABLED=0 $(GO) run ./build/defaultfilter >bin/obj/seccomp.json
	@cd runc && CGO_ENABLED=1 $(GO) run -tags '$(runctags)' ./filters <../bin/obj/seccomp.json >../$@

# BuildKit and runc as an image, which the first "docker build" starts; its
# programs come from the cache when they are there.
.PHONY: builder
builder: bin/guest/builder.tar ## the image that builds run in

bin/guest/builder.tar: build/builder bin/obj/runc $(wildcard builder/go.* builder/*/*.go) | packages
	$(say) 'builder: BuildKit'
	@build/builder bin/obj/runc $@

# --- trying and testing -------------------------------------------------------

.PHONY: run
run: ## build all, run a container in a VM with a bind mount, tell what happened
	@build/demo

.PHONY: check
check: ## formatting, vet for every platform, architecture
	@build/check

.PHONY: test
test: all ## every test
	@build/packages test
	@build/test

.PHONY: chaos
chaos: all ## 200 random steps among which daemon, shims and machines are killed; BYRE_CHAOS_SEED repeats a walk
	@build/packages test
	@BYRE_CHAOS_STEPS=$${BYRE_CHAOS_STEPS:-200} $(GO) test ./test/e2e -count=1 -timeout 90m -run TestKilledAtRandom -v

.PHONY: fuzz
fuzz: ## every fuzz target for 30 s
	@build/fuzz

.PHONY: bench
bench: all ## print the tables of docs/performance.md
	@build/packages bench
	@$(GO) run ./bench

.PHONY: peer
peer: all ## moby's own suites against byre and a dockerd, as root: docs/peer-results.md
	@build/packages test
	@$(GO) run ./test/peer $(PEER)

.PHONY: generate
generate: ## regenerate the ttrpc code from api/
	@build/packages generate
	@build/generate

.PHONY: clean
clean: ## remove bin/; the kernel's cache stays
	rm -rf bin
