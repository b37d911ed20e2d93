# Snellius for people who have just cloned it:  make demo   (shows it working)   make test   (checks everything)
#
# Everything is installed into .venv with the versions of requirements.lock. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
SHARED ?= ../shared

BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --constraint requirements.lock --editable
MADE    := $(VENV)/.made
DEMO    := $(VENV)/.installed-demo
TEST    := $(VENV)/.installed-test
BENCH   := .venv-bench/.installed
INPUTS  := pyproject.toml requirements.lock
SOURCES := edge calibration models tests $(wildcard benchmarks)
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help demo test check bench test-ultralytics programs lock clean

help:
	@echo "make demo              measure a bundled street clip; nothing to set up"
	@echo "make test              everything: style, types, imports, tests (installs the programs they need)"
	@echo "make check             style, types and imports only"
	@echo "make bench             what measuring costs, and how right it is, as tables"
	@echo "make test-ultralytics  Ultralytics and what is exported with it, in an environment of its own (gigabytes)"
	@echo "make lock              choose the versions in requirements.lock anew"
	@echo "make clean             remove what the above have made"

demo: $(DEMO)
	$(BIN)/snellius demo

test: check programs
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(TEST)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(TEST) $(BENCH)
	$(BIN)/python -m benchmarks.throughput
	@if [ -d $(SHARED)/scenes ]; then \
		.venv-bench/bin/python -m pytest -q --override-ini addopts=--strict-markers tests/bench && \
		.venv-bench/bin/python -m benchmarks.accuracy scenes $(SHARED)/scenes && \
		.venv-bench/bin/python -m benchmarks.accuracy clips $(SHARED)/clips && \
		.venv-bench/bin/python -m benchmarks.accuracy brno $(SHARED)/groundtruth; \
	else echo "accuracy needs the evaluation footage: make bench SHARED=its folder"; fi

# ---------------------------------------------------------------------------------------------------- environments

$(DEMO): $(INPUTS) | $(MADE)
	@echo "installing Snellius into $(VENV) (a few minutes the first time)"
	$(INSTALL) '.[demo]'
	@touch $@

$(TEST): $(INPUTS) | $(MADE)
	@echo "installing Snellius and what tests it into $(VENV) (a few minutes the first time)"
	$(INSTALL) '.[demo,subscriber,study,ncnn,openvino,test]'
	@touch $@ $(DEMO)

# In an environment of its own: the libraries that accuracy is compared with bring opencv-python beside ours.
$(BENCH): $(INPUTS)
	$(PYTHON) -m venv .venv-bench
	@echo "installing Snellius and what it is compared with into .venv-bench"
	.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install --constraint requirements.lock \
		--editable '.[bench,test]'
	@touch $@

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "Snellius needs Python 3.10 to 3.13, '$(PYTHON)' is not: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
		echo "$(PYTHON) has no venv: installing $$package"; \
		$(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq $$package || { \
			echo "install it by hand: apt-get install $$package" >&2; exit 1; }; }
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Programs that the tests use, each with Debian's package. Some live where not everybody's path leads: /usr/sbin, and a
# folder of each version of PostgreSQL.
PROGRAMS := mosquitto:mosquitto mosquitto_sub:mosquitto-clients openssl:openssl strace:strace chromedriver:chromium-driver \
	initdb:postgresql systemd-analyze:systemd setpriv:util-linux mkfs.ext4:e2fsprogs
POSTGRESQL := $(shell printf '%s:' /usr/lib/postgresql/*/bin)

# An RTSP server, for Debian's Python: GStreamer's, with an H.264 encoder.
RTSP_SERVER := gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-bad gstreamer1.0-plugins-good python3-gi
HAS_RTSP := import gi; gi.require_version("GstRtspServer", "1.0"); from gi.repository import Gst, GstRtspServer; \
	Gst.init(None); names = ("videotestsrc", "openh264enc", "rtph264pay"); assert all(map(Gst.ElementFactory.find, names))

programs:
	@missing=""; for pair in $(PROGRAMS); do \
		PATH="$$PATH:/usr/sbin:$(POSTGRESQL)" command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	/usr/bin/python3 -c '$(HAS_RTSP)' 2>/dev/null || missing="$$missing $(RTSP_SERVER)"; \
	[ -z "$$missing" ] || { \
		echo "installing what the tests use:$$missing"; \
		$(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } || { \
			echo "the tests need these programs; install them by hand: apt-get install$$missing" >&2; exit 1; }

# In an environment of its own: ultralytics brings opencv-python beside our opencv-python-headless, and both own cv2.
test-ultralytics:
	$(PYTHON) -m venv .venv-ultralytics
	@echo "installing Ultralytics and torch into .venv-ultralytics (gigabytes)"
	.venv-ultralytics/bin/python -m pip --disable-pip-version-check --quiet install --editable \
		'.[ultralytics,ncnn,openvino,test]' pnnx shapely
	.venv-ultralytics/bin/python -m pytest --override-ini addopts=--strict-markers tests/ultralytics tests/edge/test_runtimes.py

lock: | $(MADE)
	$(PIP) install uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-annotate \
		--extra bench --extra demo --extra ncnn --extra openvino --extra subscriber --extra study --extra test \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .venv-bench .venv-ultralytics build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
