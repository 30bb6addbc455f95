# The commands that README prints. A second run of each is quick: the environment is built once.
# A machine without uv gets it into the environment itself; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= passive

.PHONY: demo ui test bench bench-gpu clean

demo: $(VENV)/run.stamp
	$(BIN)/posemamba run assets/walk_wave.mp4 -o out/demo

ui: $(VENV)/ui.stamp
	$(BIN)/python app.py

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy app checkpoints detectors lifter
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest -n 2 --dist loadfile

bench: $(VENV)/run.stamp
	$(BIN)/posemamba bench lifter
	$(BIN)/posemamba bench pipeline

# Needs a CUDA GPU: the network's speed on it, then the tests that only run there.
bench-gpu: $(VENV)/test.stamp
	$(BIN)/posemamba bench lifter --device cuda
	$(BIN)/pytest -m requires_cuda

# What a Hugging Face Space installs: our own dependencies, pinned as in constraints.txt. Not theirs: Spaces adds
# gradio[oauth,mcp] in the same command, whose bounds on them are narrower.
requirements.txt: pyproject.toml constraints.txt $(BIN)/uv
	$(BIN)/uv pip compile --quiet --no-deps --no-annotate --python-version 3.12 --extra mediapipe --extra ui \
	  --constraint constraints.txt --custom-compile-command 'make requirements.txt' pyproject.toml -o $@

clean:
	rm -rf $(VENV) out build *.egg-info lifter/scan/*.so

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13) and "Python 3.10 to 3.12 is needed, this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11 demo")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==0.13.8

$(VENV)/run.stamp: $(BIN)/uv pyproject.toml setup.py constraints.txt $(wildcard lifter/scan/*.cpp lifter/scan/*.h)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt --editable '.[mediapipe]'
	touch $@

$(VENV)/ui.stamp: $(VENV)/run.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt --editable '.[mediapipe,ui]'
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt --editable '.[mediapipe,yolo,ui,dev]'
	touch $@
