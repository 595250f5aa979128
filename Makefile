# SPDX-License-Identifier: GPL-2.0
# Entry points for people. Everything is a script in scripts/ or qemu/; this file names them. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test faults fuzz fuzz-guest fuzz-targets debug-test stress crash crash-vm xfstests shell guest modules tools bench bench-scale check fmt env install clean cache-clean

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo
	@echo 'make guest RUN=script.sh [ARGS="..."], and for guest, shell, test, demo:'
	@echo '  KVER=7.2|7.3  SMP=  MEM=  PMEM=<size of each NVDIMM>  TIMEOUT=<s>  QEMU_ARGS=  APPEND=<kernel command line>'
	@echo '  VIRTIO_PMEM=<size>  PMEM_DIR=<keep the NVDIMMs there>  ICOUNT=1  (all of them: the head of qemu/run)'
	@echo 'make test ONLY="engine guest debug boot" [TESTS="rename truncate"]: a part.'
	@echo 'Caches: OCHRE_CACHE, default ~/.cache/ochre.'

demo: tools ## the main job on real programs, in a virtual machine, told step by step
	@MODULE=$$(scripts/build-module) && export MODULE && scripts/demo

test: ## all tests; ends with a line "N passed, N failed"
	@scripts/test

debug-test: ## the guest tests on a kernel with KASAN, lockdep, kmemleak ... (built once, 15 to 40 min); TESTS="a b" STRESS_MINUTES=3
	@scripts/debug-test

stress: tools ## all removing calls, faults, writes and held pages at once, verified; STRESS_MINUTES=3 SEED= KVER=debug
	@MODULE=$$(scripts/build-module) && export MODULE && TIMEOUT=$$(($${STRESS_MINUTES:-3} * 240 + 900)) scripts/run-guest-tests stress

crash: ## cuts the power of a simulated machine everywhere; BUDGET=10m|1h|<images> SEED= QUICK=1 ON=full,groups REPLAY=<token>
	@cd tools && cargo run --quiet --release -p ochre-crash -- $(if $(REPLAY),--replay '$(REPLAY)') \
		$(if $(BUDGET),--budget $(BUDGET)) $(if $(SEED),--seed $(SEED)) $(if $(ON),--on $(ON)) $(if $(QUICK),--quick)

faults: ## every call without memory at each of its allocations, and at each level of remaining space: all that make test has a share of
	@cd tools && ALL=1 cargo test --release -p ochre-sim --test faults

shell: tools ## an interactive machine with a filesystem mounted
	@MODULE=$$(scripts/build-module) && TIMEOUT=$${TIMEOUT:-86400} MODULE=$$MODULE qemu/run --shell

guest: tools ## runs RUN=script ARGS=... in a virtual machine; /out comes back as build/out
	@test -n "$(RUN)" || { echo 'make guest wants RUN=script.sh' >&2; exit 2; }
	@MODULE=$$(scripts/build-module) && MODULE=$$MODULE qemu/run $(RUN) $(ARGS)

modules: ## build/ochre.ko for KVER=7.2 or 7.3 of Debian's backports, or for the prepared kernel tree KDIR
	@scripts/build-module >/dev/null

tools: ## build/bin/mkfs.ochre, fsck.ochre, ochre: static
	@scripts/build-tools

crash-vm: ## records a run of the real module, and explores what a power cut could have left; SEED= SIZE= STATES= (scripts/crash-vm)
	@scripts/crash-vm

xfstests: tools ## xfstests on Ochre, from the built tree XFSTESTS=<folder>; TESTS="-g quick" or "generic/001 ..." LAYOUT=wait KVER=debug
	@test -n "$(XFSTESTS)" || { echo 'make xfstests wants XFSTESTS=<folder of a built xfstests>: tests/README.md says how' >&2; exit 2; }
	@MODULE=$$(scripts/build-module) && export MODULE && tests/xfstests/run $(XFSTESTS) $(if $(LAYOUT),LAYOUT=$(LAYOUT)) $(TESTS)

fuzz: ## damages filesystems, right checksums and all, and lets the engine loose on them: 100,000 images; BUDGET=<s> goes on for so long
	@cd tools && cargo run --quiet --release -p ochre-mutate --bin ochre-bad-images -- fuzz --repair $(if $(BUDGET),--seconds $(BUDGET) -n 4000000000) $(if $(SEED),--seed $(SEED))

fuzz-guest: tools ## damaged filesystems under the real module, IMAGES=400 of them
	@MODULE=$$(scripts/build-module) && export MODULE && APPEND="bad_images=$${IMAGES:-400} $$APPEND" scripts/run-guest-tests bad-images

fuzz-targets: ## libFuzzer on every structure and the journal, SECONDS_EACH=60 s each
	@scripts/fuzz-targets $(TARGETS)

bench: tools ## instructions per operation beside their limits; FS="ochre ext4 xfs ramfs" measures the peers too, PROFILE="create" shows where a row's go
	@MODULE=$$(scripts/build-module) && export MODULE && bench/instructions $(FS)

bench-scale: ## a check of 1 TiB with a million files, mounts of 1 GiB beside 1 TiB: time, memory, accesses, instructions
	@bench/scale

check: ## formatting, clippy on module and tools, rules on layers, unsafe and sizes
	@scripts/check

fmt: ## formats the sources
	@scripts/check --fmt

env: ## only makes the environment: build root, kernel, guest
	@scripts/env-guest

install: tools ## into this machine: its kernel must be Debian's 7.2 or 7.3 (DESTDIR=)
	@scripts/install

clean: ## removes what was built here
	rm -rf build tools/target

cache-clean: ## removes the cached environment too
	rm -rf "$${OCHRE_CACHE:-$$HOME/.cache/ochre}"
