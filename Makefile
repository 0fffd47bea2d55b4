# Thin over cmake presets (CMakePresets.json) and ctest; `make help` lists the targets.
# A plain `cmake -B build && cmake --build build` works too.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps build quickstart check bench fuzz fault interop install clean

JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DESTDIR ?=
POINTS ?= 200
TIME ?= 60
TORTURE ?= places
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

# Every Debian 12 package, also those that Debian only recommends with others.
PACKAGES := build-essential gcc clang cmake ninja-build pkg-config \
	libcjson-dev libffi-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libssl-dev libcurl4-openssl-dev \
	zlib1g-dev libzstd-dev libsnappy-dev \
	libopenblas-openmp-dev libgomp1 \
	check libclang-rt-14-dev clang-format clang-tidy python3 python3-venv ca-certificates

help:
	@echo "make quickstart   build, then compress the bundled model and show the report's path"
	@echo "make build        Release build; leaves build/bin/sqz, which runs in place"
	@echo "make check        everything a change must pass: gcc, clang, sanitizers, all tests"
	@echo "make deps         install the Debian packages that are missing (as root or with sudo)"
	@echo "make bench        speed of the bundled model, and of the peers where SQZ_PYTHON has them"
	@echo "make interop      all comparisons with Python peers (a venv under build/, or SQZ_PYTHON); SQZ_INTEROP=full: all rows"
	@echo "make fuzz         fuzz every reader of foreign files, TIME=$(TIME) seconds each"
	@echo "make fault        kill -9 at $(POINTS) random points and after every journal record; full disks;"
	@echo "                  the n-th allocation fails, TORTURE=$(TORTURE): each place (all: each n) of the coordinator"
	@echo "make install      DESTDIR= PREFIX=$(PREFIX)"
	@echo "make clean        remove build/"

deps:
	@missing=; \
	for p in $(PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	if [ -z "$$missing" ]; then echo "deps: all $(words $(PACKAGES)) packages are installed"; exit 0; fi; \
	echo "deps: installing$$missing"; \
	sudo=; \
	if [ "$$(id -u)" != 0 ]; then \
	    sudo=sudo; \
	    command -v sudo >/dev/null || { echo "deps: not root and no sudo; run as root: apt-get install$$missing" >&2; exit 1; }; \
	fi; \
	$$sudo apt-get update; \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing

# The generator is fixed at the first configure: reconfigure only what is there.
build:
	@cmake --preset release >/dev/null
	@cmake --build --preset release

quickstart: deps build
	@rm -rf runs/quickstart
	build/bin/sqz --config configs/pipelines/quickstart.json --output runs/quickstart --yes

# One stage: $(1) = preset.  Says how long it took, so that a slow stage is seen.  Many tests wait (for
# deadlines, servers, retries), so one more than there are cores run at a time.
define stage
	@start=$$SECONDS; echo "== $(1): configure, build, test"; \
	cmake --preset $(1) >/dev/null; \
	cmake --build --preset $(1) -- -k 0; \
	ctest --preset $(1) -j $$(($(JOBS) + 1)); \
	echo "== $(1): ok in $$((SECONDS - start)) s"
endef

check: deps
	$(call stage,release)
	$(call stage,clang)
	$(call stage,asan)
	$(call stage,fuzz)
	$(call stage,tsan)
	@echo "check: everything passed"

bench: build
	@cmake --build --preset release --target mkmodel
	python3 tests/bench/bench.py

interop: build
	tests/interop/run.sh

fault: build
	python3 tests/fault/kill.py build/bin/sqz build/tests/sqz_fault_preload.so build/tests/fault_kill --points $(POINTS) --records all --times --jobs $(JOBS)
	python3 tests/fault/disk.py build/bin/sqz build/tests/sqz_fault_preload.so build/tests/fault_disk --points 60 --jobs $(JOBS)
	@cmake --preset asan >/dev/null
	@cmake --build --preset asan
	build/asan/tests/torture all parsers
	build/asan/tests/torture $(TORTURE) coordinator
	build/asan/tests/torture places job

fuzz:
	@cmake --preset fuzz >/dev/null
	@cmake --build --preset fuzz
	@tests/fuzz/run.sh $(TIME) build/fuzz

install: build
	DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build
