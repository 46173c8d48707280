# Every task has one short name, the same at a desk and in CI. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := release
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:  # Each task uses all cores by itself.

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

# Whose unit tests run under sanitizers by default, CI included. The runtime, gRPC and Boost are not
# instrumented: a folder that calls them joins once its run is proven free of their findings.
ASAN_FOLDERS ?= base crypto graph media infer compress learn monitor serve
TSAN_FOLDERS ?= base infer learn serve
# What only gRPC's or the runtime's own atomics order looks like a race: their calls do not count, and
# the tests that go through a gRPC channel stay away.
TSAN_ENV := TSAN_OPTIONS=ignore_noninstrumented_modules=1 GTEST_FILTER='-GrpcServerTest.*'
space := $(subst ,, )

# $(call build,PRESET[,TARGETS]): configures where needed and compiles.
build = test -e build/$(1)/build.ninja || cmake --preset $(1) >/dev/null; ninja -C build/$(1) -j $(JOBS) $(2)
ctest = ctest --test-dir build/$(1) -j $(JOBS) --output-on-failure --no-tests=error

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: setup
setup: ## Install everything the build, the tests and the demo need
	@tools/setup

.PHONY: release
release: ## Build bin/selvage (also what plain `make` does)
	@$(call build,release,selvage)
	@mkdir -p bin && ln -sf ../build/release/src/cli/selvage bin/selvage

.PHONY: demo
demo: setup release ## Run real models on real pictures and sound
	@tools/demo

.PHONY: test
test: setup ## Build with asserts and run every test
	@$(call build,dev)
	@$(call ctest,dev)

.PHONY: bench
bench: setup release ## Measure against the named baselines and print the ratios
	@$(call build,release)
	@tools/bench

.PHONY: bench-peers
bench-peers: setup release ## Measure beside the same in Python
	@tools/setup peers
	@$(call build,release)
	@tools/peers/engine
	@tools/peers/serve
	@tools/peers/quantize bin/selvage

.PHONY: results
results: setup release ## Train what docs/results.md claims and write its table (hours)
	@tools/results

.PHONY: format
format: ## Lay out the C++ sources as .clang-format says
	@tools/check_format --fix

.PHONY: check
check: setup ## Format, layers, clang-tidy, and the unit tests under sanitizers
	@tools/check_format
	@tools/check_layers
	@$(MAKE) tidy sanitizers

.PHONY: tidy
tidy: ## Run clang-tidy over src/
	@$(call build,asan)
	@tools/check_tidy build/asan

.PHONY: sanitizers
sanitizers: ## Run unit tests under address, undefined-behaviour and thread sanitizers
	@$(call build,asan,$(ASAN_FOLDERS:%=%_test))
	@$(call ctest,asan) -R '^($(subst $(space),|,$(ASAN_FOLDERS)))_test$$'
	@$(call build,tsan,$(TSAN_FOLDERS:%=%_test))
	@$(TSAN_ENV) $(call ctest,tsan) -R '^($(subst $(space),|,$(TSAN_FOLDERS)))_test$$'

.PHONY: conformance
conformance: release ## Run unmodified clients against the server, and the reference beside our quantisers
	@tools/conformance bin/selvage

.PHONY: fuzz
fuzz: setup ## Fuzz every reader of foreign bytes for FUZZ_SECONDS (60) each
	@$(call build,fuzz)
	@tools/fuzz $(FUZZ_SECONDS)

.PHONY: arm64
arm64: ## Cross-build for arm64 and run its tests under emulation
	@tools/setup build runtime schema models data arm64
	@$(call build,arm64)
	@GTEST_FILTER='-ExampleModels.Ppocr*' $(call ctest,arm64) -LE repository

.PHONY: install
install: release ## Install under PREFIX (/usr/local), staged into DESTDIR if given
	@$(call build,release,all)
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)"

.PHONY: clean
clean: ## Remove what was built; what `make setup` fetched stays
	rm -rf build bin
