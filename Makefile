# Needs make, git and a supported Python with its venv module; everything else goes into .venv from requirements/,
# checked by hash. A stamp in .venv is younger than the lock that it stands for, so a lock that changes is installed anew.
SUPPORTED := 3.11 3.12 3.13
DATA := $(or $(CIFAR10_DATA),data)
OUT := runs/fast
IMAGE := cifar10
HARDWARE := $(if $(GPU),gpu,training)

is_supported := import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(SUPPORTED)".split())
have := $(shell .venv/bin/python -V 2>/dev/null)
ifeq ($(origin PYTHON),undefined)
  PYTHON = $(or $(shell for python in python3 $(patsubst %,python%,$(SUPPORTED)); do \
      $$python -c '$(is_supported)' 2>/dev/null && echo $$python && break; done),python3)
  want := $(have)
else
  want := $(or $(shell $(PYTHON) -V 2>/dev/null),none)
endif

.PHONY: help run check test fuzz bench peers clients cluster soak rolling swaps traces bulk jobs train image audit lock clean again
.DELETE_ON_ERROR:

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile
	@echo 'Settings: HOST=127.0.0.1 PORT=8000 (run), DATA=$(DATA) OUT=$(OUT) (train), GPU=1 (jobs, train), IMAGE=$(IMAGE) (image), PYTHON=python3.12'

run: .venv/.serve  ## serve the model in the repository on http://127.0.0.1:8000
	@exec .venv/bin/python -m app serve $(call option,--host,HOST) $(call option,--port,PORT)

# Only from the command line of make: the service reads the environment itself, and some shells set HOST to another thing.
option = $(if $(filter command,$(origin $(2))),$(1) $($(2)))

check: .venv/.dev  ## format, lint, types, the import contract and all tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy app model_store training benchmarks
	.venv/bin/lint-imports
	.venv/bin/pytest $(parallel)

test: .venv/.dev  ## the fast tests, in a minute, or any others: make test ARGS="tests/app -k predict"
	.venv/bin/pytest $(or $(ARGS),$(fast))

# Three processes for two cores, as many tests wait. Tests of a file share its fixtures, so they stay together. After a crash pytest-xdist would wait for ever for the tests of the lost process.
parallel := --numprocesses 3 --dist loadfile --max-worker-restart 0
fast := -m 'not slow and not process and not browser' $(parallel)

fuzz: .venv/.dev  ## thousands of damaged images, requests and calls of the API
	.venv/bin/pytest tests/fuzz --hypothesis-profile fuzz --hypothesis-show-statistics --verbose --capture no --timeout 1800

bench: .venv/.training  ## how fast the service is, in three minutes, or beside another checkout: make bench AGAINST=../before
	.venv/bin/python -m benchmarks.service $(if $(AGAINST),--against '$(AGAINST)') $(ARGS)

peers: .venv/.training  ## the service beside Triton and others: make peers ARGS="--peers triton,mosec"
	.venv/bin/python -m benchmarks.peers $(ARGS)

clients: .venv/.dev  ## NVIDIA's and KServe's clients against the service, in environments of their own
	.venv/bin/python -m tests.clients $(ARGS)

cluster: .venv/.dev  ## train on Ray clusters of several nodes, with nodes killed, in an environment of its own
	.venv/bin/python -m tests.cluster $(ARGS)

soak: .venv/.training  ## check answers and resources under a mixed load for 20 minutes, or fewer: make soak ARGS="--minutes 2"
	.venv/bin/python -m benchmarks.soak $(ARGS)

rolling: .venv/.training  ## replace instances behind nginx and HAProxy, and processes with SIGHUP, under load
	.venv/bin/python -m benchmarks.rolling $(ARGS)

swaps: .venv/.training  ## 50 changes of the version in a minute, under load, with every answer checked
	.venv/bin/python -m benchmarks.swaps $(ARGS)

traces: .venv/.serve .venv/.traces  ## install what CIFAR10_TRACES=otlp needs

bulk: .venv/.bulk  ## install what `.venv/bin/python -m app classify --to` needs

jobs: .venv/.$(HARDWARE)  ## install what `.venv/bin/python -m training` needs

train: .venv/.$(HARDWARE)  ## train the recipe "fast" into runs/fast, after fetching CIFAR-10 where it is missing
	@test -e '$(DATA)/cifar-10-batches-bin/test_batch.bin' || .venv/bin/python -m training fetch --to '$(DATA)'
	$(if $(GPU),KERAS_BACKEND=jax) .venv/bin/python -m training train --recipe fast --data '$(DATA)' --out '$(OUT)'

image:  ## build the container images cifar10:serve and cifar10:training, then audit their packages
	docker build --target serve --tag $(IMAGE):serve .
	docker build --target training --tag $(IMAGE):training .
	@$(MAKE) --no-print-directory audit

audit: .venv/.audit  ## look for known vulnerabilities in the packages of the images
	@.venv/bin/python requirements/audit.py requirements/serve.txt requirements/traces.txt requirements/training.txt

lock: .venv/.dev  ## compile the dependency groups of pyproject.toml into requirements/
	.venv/bin/uv pip compile $(lock_options) --group dev -o requirements/dev.txt
	.venv/bin/uv pip compile $(lock_options) --group serve -c requirements/dev.txt -o requirements/serve.txt
	.venv/bin/uv pip compile $(lock_options) --group bulk -c requirements/dev.txt -o requirements/bulk.txt
	.venv/bin/uv pip compile $(lock_options) --group training -c requirements/dev.txt -o requirements/training.txt
	.venv/bin/uv pip compile $(lock_options) --group gpu -c requirements/dev.txt -o requirements/gpu.txt
	.venv/bin/uv pip compile $(lock_options) --group traces -c requirements/dev.txt -o requirements/traces.txt
	.venv/bin/uv pip compile $(lock_options) --group audit -c requirements/dev.txt -o requirements/audit.txt
	.venv/bin/uv pip compile $(lock_options) --group sbom -c requirements/dev.txt -o requirements/sbom.txt
	.venv/bin/uv pip compile $(lock_options) --group client-triton -o requirements/client-triton.txt
	.venv/bin/uv pip compile $(lock_options) --group client-kserve -o requirements/client-kserve.txt
	.venv/bin/uv pip compile $(lock_options) --group kubernetes -o requirements/kubernetes.txt
	.venv/bin/uv pip compile $(lock_options) --group ray -c requirements/dev.txt -o requirements/ray.txt

# One version of each package for every supported Python, and nothing of the machine that compiled it.
lock_options := --quiet --universal --fork-strategy fewest --python-version $(firstword $(SUPPORTED)) --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

clean:  ## remove .venv and every cache; data/ and runs/ stay
	rm -rf .venv .hypothesis .schemathesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find app model_store training benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Remade when its Python has gone or PYTHON asks for another one.
.venv/.made: $(if $(filter-out $(subst $() ,_,$(or $(want),none)),$(subst $() ,_,$(or $(have),gone))),again)
	@$(PYTHON) -c '$(is_supported)' 2>/dev/null || { echo "$(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing), but this needs \
	Python $(SUPPORTED) (what TensorFlow and OpenVINO have wheels for); install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no working venv module; on Debian or Ubuntu \
	install it with: apt install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear .venv
	@touch $@

# A lock is a subset of the next one with the same versions, so the smaller stamps come with the bigger ones.
.venv/.serve: covered := .serve
.venv/.bulk: covered := .serve .bulk
.venv/.training: covered := .serve .training
.venv/.gpu: covered := .serve .training .gpu
.venv/.traces: covered := .traces
.venv/.audit: covered := .audit
.venv/.dev: covered := .serve .bulk .training .traces .audit .dev
.venv/.%: requirements/%.txt .venv/.made
	@echo 'Installing $< into .venv'
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes -r $<
	@cd .venv && touch $(covered)
