# make serve   serve the embedded models on http://localhost:3000 (PORT=, GRPC_PORT=, HOST= change it)
# make test    lint, types and tests in an environment of their own, and clients in another
#              (TEST_PROCESSES=, 2, of them at a time; 0: all in one process)
#              All are installed from requirements/*.lock. LOCKED=0: the newest releases that
#              pyproject.toml allows, in environments of their own (docs/dependencies.md)
# make lock    renews requirements/*.lock (UPGRADE=--no-upgrade: only what no longer fits)
# make unit    the tests without a server, a socket or PyTorch: a minute on two cores
# make mutants plants faults in a copy of the tree, one at a time, and tells which of them the tests
#              see; long (ROOM=engine: those of one room; MUTANTS='--jobs 2': two at a time)
# make lint    only the first two
# make clients only tests/clients: tritonclient, the KServe SDK, grpcurl, docs/clients.md
# make audit   asks PyPI for known flaws of what `make serve` installs; needs the network
# make image-test  builds and runs the images, without Docker: needs root and Debian's buildah,
#              debootstrap and runc; minutes (docs/docker.md)
# make loadtest  Locust against a service of its own: pass or fail (LOADTEST='--users 16 …')
# make soak    traffic and faults for MINUTES=60, every request accounted for
# make zoo     the slow tests, then the proof of every network; two hours
# make export  (re)build the embedded models
# make protos  generate the gRPC stubs from service/transports/grpc/protos/*.proto
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000
GRPC_PORT ?= 3001

LOCKED ?= 1
ifeq ($(LOCKED),0)
NEWEST := -newest
endif
SERVE_ENV := .venv$(NEWEST)
TEST_ENV := .venv-test$(NEWEST)
CLIENTS_ENV := .venv-clients$(NEWEST)
AUDIT_ENV := .venv-audit
LOCK_ENV := .venv-lock
ENVS := .venv .venv-test .venv-clients .venv-audit .venv-lock
# what the locks are made of, too (requirements/lock.sh)
SERVE_EXTRAS := cpu,fast,tracing
TEST_EXTRAS := cpu,openvino,fast,tracing,export,load,dev
TOOLS := .tools
# many tests wait for a server's start, so two processes of them are faster than one
TEST_PROCESSES ?= 2
PYTEST = $(TEST_ENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	--durations=25
# a plug-in that none of these uses takes seconds to import
UNIT := tests/unit -p no:schemathesis
CLIENTS_LOG := .clients.log
MINUTES ?= 60
PIP := -m pip --disable-pip-version-check --no-input
# each server has a BentoML home of its own: BentoML empties its metrics folder at start
export BENTOML_DO_NOT_TRACK ?= True
# where it is set, each of the many processes that tests start compiles everything anew
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help serve test most aside unit mutants clients image-test audit loadtest soak zoo lint format export protos lock clean

help:
	@sed -n 's/^# \{0,1\}//p; /^PYTHON/q' $(firstword $(MAKEFILE_LIST))

serve: $(SERVE_ENV)/.installed
	home="$${BENTOML_HOME:-$(CURDIR)/.bentoml/$(PORT)}"; mkdir -p "$$home" && BENTOML_HOME="$$home" \
		ZOO_HOST="$${ZOO_HOST:-$(HOST)}" ZOO_GRPC_PORT="$${ZOO_GRPC_PORT:-$(GRPC_PORT)}" exec \
		$(SERVE_ENV)/bin/bentoml serve service.app:ZooService --host $(HOST) --port $(PORT)

# the clients wait for servers most of the time, so they run beside the others and print behind them
test: lint $(CLIENTS_ENV)/.installed $(TOOLS)/.installed
	@begun=$$(date +%s); \
	$(MAKE) --no-print-directory -j2 most aside; status=$$?; \
	cat $(CLIENTS_LOG); rm -f $(CLIENTS_LOG); \
	echo "the tests took $$(( $$(date +%s) - begun )) s"; exit $$status

# in CI it is printed which lines of the service the unit tests run; elsewhere their time counts
COVERAGE = $(if $(CI),--cov=service --cov-report=term:skip-covered)
most:
	@status=0; \
	$(PYTEST) $(UNIT) $(COVERAGE) || status=$$?; \
	$(PYTEST) tests --ignore=tests/unit || status=$$?; \
	exit $$status

aside:
	@$(MAKE) --no-print-directory clients > $(CLIENTS_LOG) 2>&1

# what starts no process, listens on no socket and needs no PyTorch
unit: $(TEST_ENV)/.installed
	$(PYTEST) $(UNIT) -m "not long and not zoo and not gpu"

# tests/mutants/*.toml
mutants: $(TEST_ENV)/.installed $(TOOLS)/.installed
	$(TEST_ENV)/bin/python -m tests.mutants $(foreach room,$(ROOM),--room $(room)) $(MUTANTS)

# tritonclient and the KServe SDK have the same protocol package: no process can hold both
clients: $(TEST_ENV)/.installed $(CLIENTS_ENV)/.installed
	export ZOO_TEST_PYTHON=$(CURDIR)/$(TEST_ENV)/bin/python; \
		$(CLIENTS_ENV)/bin/python -m pytest tests/clients/triton tests/clients/pages tests/clients/generated && \
		$(CLIENTS_ENV)/bin/python -m pytest tests/clients/kserve

# KINDS="cpu bento cuda": those alone
image-test: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m tests.image $(KINDS)

loadtest: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m loadtests.gate $(LOADTEST)

soak: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m loadtests.soak --minutes $(MINUTES)

# --strict: a package that cannot be looked up is a failure, not a pass
audit: $(SERVE_ENV)/.installed $(AUDIT_ENV)/.installed
	$(SERVE_ENV)/bin/python $(PIP) freeze --exclude-editable > $(AUDIT_ENV)/requirements.txt
	$(AUDIT_ENV)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
		--requirement $(AUDIT_ENV)/requirements.txt

zoo: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m pytest -m zoo
	$(TEST_ENV)/bin/python -m export verify --all

lint: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/mypy

format: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff format .
	$(TEST_ENV)/bin/ruff check --fix .

export: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/python -m export build efficientnet_lite0 --force
	$(TEST_ENV)/bin/python -m export build lenet5 --force

# the oldest grpcio-tools whose stubs run with the lower bounds of pyproject.toml
protos:
	$(PYTHON) -m venv .venv-protos
	.venv-protos/bin/python $(PIP) install --quiet grpcio-tools==1.81.1 googleapis-common-protos
	.venv-protos/bin/python -m grpc_tools.protoc -I. -I$$(echo .venv-protos/lib/python*/site-packages) \
		--python_out=. --pyi_out=. --grpc_python_out=. service/transports/grpc/protos/*.proto

ifeq ($(LOCKED),0)
# $(call install,environment,lock,bounds): the newest releases of today. Of pip first: where some
# releases exclude others, that of Python 3.11 settles for an older BentoML
define install
$(PYTHON) -m venv $(1)
$(1)/bin/python $(PIP) install --quiet --upgrade pip
$(1)/bin/python $(PIP) install --quiet --upgrade --upgrade-strategy eager $(3)
endef
ifeq ($(MAKELEVEL),0)
$(SERVE_ENV)/.installed $(TEST_ENV)/.installed $(CLIENTS_ENV)/.installed: newest
endif
.PHONY: newest
newest:
else
# $(call install,environment,lock,bounds): what the lock pins and nothing else; another lock, another
# environment
define install
cmp -s requirements/$(2).lock $(1)/$(2).lock || $(PYTHON) -m venv --clear $(1)
$(1)/bin/python $(PIP) install --quiet --require-hashes --requirement requirements/$(2).lock
cp requirements/$(2).lock $(1)
endef
endif

$(SERVE_ENV)/.installed: requirements/serve.lock pyproject.toml
	$(call install,$(SERVE_ENV),serve,--editable '.[$(SERVE_EXTRAS)]')
	$(SERVE_ENV)/bin/python $(PIP) install --quiet --no-deps --editable .
	touch $@

$(TEST_ENV)/.installed: requirements/test.lock pyproject.toml
	$(call install,$(TEST_ENV),test,--editable '.[$(TEST_EXTRAS)]')
	$(TEST_ENV)/bin/python $(PIP) install --quiet --no-deps --editable .
	touch $@

$(CLIENTS_ENV)/.installed: requirements/clients.lock tests/clients/requirements.txt
	$(call install,$(CLIENTS_ENV),clients,--no-compile --requirement tests/clients/requirements.txt)
	touch $@

lock: $(LOCK_ENV)/.installed
	requirements/lock.sh $(LOCK_ENV)/bin/uv $(UPGRADE)

$(LOCK_ENV)/.installed:
	$(PYTHON) -m venv $(LOCK_ENV)
	$(LOCK_ENV)/bin/python $(PIP) install --quiet 'uv>=0.9'
	touch $@

$(AUDIT_ENV)/.installed:
	$(PYTHON) -m venv $(AUDIT_ENV)
	$(AUDIT_ENV)/bin/python $(PIP) install --quiet 'pip-audit>=2.10'
	touch $@

# Prometheus, promtool and nginx: from PATH, or unpacked from Debian's packages; it touches the file
# when it has all of them
$(TOOLS)/.installed: tests/tools.sh
	tests/tools.sh $(TOOLS)

clean:
	rm -rf .image-test $(TOOLS) $(foreach env,$(ENVS),$(env) $(env)-newest) .venv-protos .bentoml *.egg-info .mypy_cache .ruff_cache .pytest_cache
