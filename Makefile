# make demo, make test: each sets up all that it needs (see .ci/) and touches nothing outside this folder but Debian packages.
.DEFAULT_GOAL := help
.PHONY: grammar corpus machine containers rungs help demo test test-pythons check docs setup clean web vertx bench profile bench-scale bench-registry times soak faults escapes kills
MAKEFLAGS += --no-print-directory

export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests work inside this folder too.
export TMPDIR := $(CURDIR)/.cache/tmp

# The samples have a store of their own, so that a demo leaves no trace in yours.
DEMO_STORE := $(CURDIR)/.cache/demo-store
PYBUILD := PYBUILD_ROOT=$(DEMO_STORE) .venv/bin/pybuild
BASES := .cache/bases

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.ready ## build sample_projects/hello, show its image and run it
	@.ci/packages busybox
	@sample_projects/bases/busybox $(BASES)/busybox
	$(PYBUILD) -t hello --build-context busybox=$(BASES)/busybox sample_projects/hello
	$(PYBUILD) images
	$(PYBUILD) history hello
	$(PYBUILD) run hello

web: .venv/.ready ## build sample_projects/web (a Python service on Debian) and ask it for its health
	@.ci/packages mmdebstrap
	@sample_projects/bases/debian $(BASES)/debian.tar
	@sample_projects/web/prepare .venv/bin/python
	$(PYBUILD) import $(BASES)/debian.tar debian:12
	$(PYBUILD) -t web sample_projects/web
	$(PYBUILD) run web --check

vertx: .venv/.ready ## build sample_projects/vertx, a classic first Dockerfile, and run it
	@.ci/packages busybox
	@sample_projects/bases/vertx $(BASES)/vertx
	@sample_projects/vertx/prepare
	$(PYBUILD) -t vertx --build-context example/vertx3:3.3.1=$(BASES)/vertx sample_projects/vertx
	$(PYBUILD) run vertx

grammar: .venv/.ready ## make the parser's tables of grammar/dockerfile.lark anew
	@.venv/bin/python -c "from builder.dockerfile import grammar; open(grammar.tables_path(), 'w').write(grammar.generated())"

test: setup ## run the whole test suite
	@.ci/suite .venv/bin/python

test-pythons: setup ## run the suite on every newer Python on this machine (PATH, pyenv)
	@failed=; for python in $$(.ci/pythons); do \
	    version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "== Python $$version ($$python)"; \
	    .ci/venv .venv-$$version $$python && .ci/suite .venv-$$version/bin/python || failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { echo "failed with Python$$failed"; exit 1; }

bench: .venv/.ready ## whole builds beside every other builder that is installed, and beside what the bytes cost (a quarter of an hour)
	@.ci/packages busybox skopeo buildah
	@sample_projects/bases/busybox $(BASES)/busybox
	@.venv/bin/python -m bench.compare --json .cache/bench.json $(BENCH)

times: .venv/.ready ## the times of small builds, cold and cached, and of the language alone
	@.ci/packages busybox
	@sample_projects/bases/busybox $(BASES)/busybox
	@.venv/bin/python -m bench.times
	@.venv/bin/python -m bench.language

profile: .venv/.ready ## where the time of each workload goes, in percent (5 minutes)
	@.ci/packages busybox
	@sample_projects/bases/busybox $(BASES)/busybox
	@.venv/bin/python -m bench.profile $(PROFILE)

bench-scale: .venv/.ready ## what a build costs against its size: files, bytes, steps, stages, images (a quarter of an hour)
	@.ci/packages busybox
	@sample_projects/bases/busybox $(BASES)/busybox
	@.venv/bin/python -m bench.scale $(SCALE)

bench-registry: .venv/.ready ## pull and push of a large image beside skopeo
	@.ci/packages docker-registry podman skopeo umoci
	@.venv/bin/python -m bench.registry

soak: .venv/.ready ## eight builders on one store, killed at random 200 times (KILLS=200), while others remove what they can
	@.ci/packages busybox
	@sample_projects/bases/busybox $(BASES)/busybox
	@rm -rf .cache/soak
	@.venv/bin/python -m tests.build.build_soak $(or $(KILLS),200) .cache/soak $(BASES)/busybox
	@rm -rf .cache/soak

faults: .venv/.ready ## what each fault of a network, registry or image gives: print the table that the tests compare with
	@.venv/bin/python -m tests.registry.registry_faults | tee tests/golden/registry/faults.txt

rungs: .venv/.ready ## tools that change users and owners on each rung, and what a RUN costs there: write the table
	@.ci/packages mmdebstrap newuidmap busybox mke2fs
	@.venv/bin/python -m tests.rootless.rootless_table

corpus: .venv/.ready ## what verify says of small Dockerfiles with known causes: write the table that the tests compare with (3 minutes)
	@.ci/packages mmdebstrap faketime
	@.venv/bin/python -m tests.verify.verify_corpus

escapes: .venv/.ready ## what each way out of the sandbox gets: write the table that the tests compare with
	@.ci/packages busybox gcc newuidmap
	@.venv/bin/python -m tests.escape.escape_table > .cache/escapes.txt
	@tee tests/golden/escapes.txt < .cache/escapes.txt

kills: .venv/.ready ## how builds end that are killed, and in how many seconds all is gone: write the table that the tests compare with
	@.ci/packages busybox newuidmap
	@.venv/bin/python -m tests.escape.escape_kills $(OUTPUT)

machine: setup ## tests of the sandbox with Debian's own kernel, cgroups of version 2 and shared mounts, in a virtual machine (20 minutes; TESTS=)
	@.venv/bin/python -m pytest -q tests/sandbox/sandbox_machine.py
	@SECONDS_LEFT=3600 .ci/machine .venv/bin/python -m pytest -q -p no:cacheprovider --color=no \
	    $(or $(TESTS),tests/sandbox tests/cli/test_cli_limits_cgroup.py tests/rootless/test_rootless_cgroups.py)

containers: setup ## the last rung in containers of Docker and podman, in a virtual machine: write the table of what they give (2 minutes)
	@sample_projects/bases/busybox $(BASES)/busybox
	@.venv/bin/python -m tests.rootless.rootless_containers

check: .venv/.ready ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

docs: .venv/.ready ## write the pages of the build checks
	@.venv/bin/python docs/write_checks.py

setup: .venv/.ready ## all that the tests need: virtual environment, Debian packages, Docker's seccomp profile
	@.ci/packages $$(awk '{print $$1}' .ci/tools)
	@.ci/docker-profile
	@mkdir -p $(TMPDIR)

clean: ## remove all that make made, but not Debian packages
	rm -rf .venv .venv-* .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache
	rm -rf sample_projects/web/wheels sample_projects/vertx/*.tar

# The stamp is older than pyproject.toml when a dependency changed.
.venv/.ready: pyproject.toml .ci/venv .ci/python
	@mkdir -p $(TMPDIR)
	@.ci/venv .venv
	@touch $@
