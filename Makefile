# Everything from a fresh Debian 12 or 13 with make and python3, as root or with sudo.
# What takes more than a line is in .ci/: install, demo, test and bench.

KERNEL  ?=
FILE    ?=
KERNELS ?= 5.10 6.1 6.12 7.2
SECTIONS ?=
CASES   ?= 100000
MINUTES ?=
NAMES   ?=
BIN     := .venv/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo check test test-host test-vm test-all own-kernel box vagrant-test reproducible deb deb-test container container-test bench soak attack selftests fuzz pictures unit lint clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: ## Install what is missing: Debian packages through apt, .venv/
	@.ci/install

demo: install ## Fork and its copies, live, on this kernel; KERNEL=6.12 in the VM
	@.ci/demo $(KERNEL)

check: lint unit ## lint and unit: what every commit passes, in about a minute

test: install ## Unit tests, this kernel's, then in the VM KERNELS="5.10 6.1"
	@.ci/test $(KERNELS)

test-host: install ## Tests on this kernel: all, or FILE=tests/system/test_x.py
	@.ci/test host $(FILE)

test-vm: install ## The same in the VM: KERNEL=6.12 FILE=tests/system/test_x.py
	@.ci/test vm $(or $(KERNEL),6.12) $(FILE)

test-all: install ## The same on every kernel: real-time, arm64, 16 KiB pages...
	@.ci/test all

own-kernel: install ## Build a kernel from Debian's source and verify on it; bisect
	@.ci/own-kernel

box: install ## The Vagrant box of KERNEL=6.12, and what it takes to boot it
	@.ci/box $(KERNEL)

vagrant-test: install ## Boot KERNEL=6.12's Vagrant box, run cowtrace in it, remove it
	@.ci/vagrant-test $(KERNEL)

reproducible: install ## Build the images of KERNEL=6.12 once more: the same bytes
	@.ci/reproducible $(KERNEL)

deb: install ## The Debian package, for 12 and 13: dist/cowtrace_*_all.deb
	@.ci/install deb
	@.ci/deb

deb-test: install ## Install it in a fresh Debian and in the VM, run it, remove it
	@.ci/deb-test $(KERNEL)

container: install ## The container image `cowtrace`, of that package
	@.ci/container

container-test: install ## Build that on a fresh Debian and run it with podman
	@.ci/container-test

bench: install ## What tracing costs, next to bpftrace; SECTIONS="native startup"
	@COWTRACE_BENCH_KERNEL="$(KERNEL)" .ci/bench $(SECTIONS)

soak: install ## Processes without end for MINUTES=30; KERNEL=6.12: in the VM
	@.ci/soak $(or $(MINUTES),30) $(KERNEL)

attack: install ## Attack as an ordinary user for MINUTES=10; NAMES=storm: those
	@.ci/attack $(or $(MINUTES),10) $(NAMES)

selftests: install ## The kernel's own tests of copy-on-write, traced; KERNEL=6.12 in the VM, or host
	@.ci/selftests $(KERNEL)

pictures: install ## Draw the README's pictures from a trace of real processes
	@.ci/pictures

fuzz: install ## Fuzz every parser with CASES=100000 inputs each
	@.ci/fuzz $(CASES)

# One worker more than there are CPUs: some tests wait for a signal or for a deadline.
unit: install ## The tests that need no root, no BCC and no kernel
	$(BIN)/python -m pytest tests/unit -q -n $$(($$(nproc) + 1)) --dist worksteal

lint: install ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	for script in $$(find .ci -maxdepth 1 -type f -perm /1); do bash -n $$script || exit; done

clean: ## Remove .venv/ and caches; the VM's images stay
	rm -rf .venv .install.log build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find cowtrace tests -name __pycache__ -type d -prune -exec rm -rf {} +
