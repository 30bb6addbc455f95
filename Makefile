# The commands that README prints. A second run of each is quick: the environment is built once.
# A machine without uv gets it into the environment itself; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY ?= passive

.PHONY: demo ui test test-all bench bench-gpu clean

demo: $(VENV)/run.stamp
	$(BIN)/posemamba run assets/walk_wave.mp4 -o out/demo

ui: $(VENV)/ui.stamp
	$(BIN)/python app.py

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy app checkpoints detectors lifter
	$(BIN)/hadolint Dockerfile
	$(BIN)/pytest -n 2 --dist loadfile --durations 25 $(PYTEST)

# With the sweeps that take minutes each.
test-all: PYTEST := -m ""
test-all: test

bench: $(VENV)/run.stamp
	$(BIN)/posemamba bench lifter
	$(BIN)/posemamba bench pipeline

# Needs a CUDA GPU: the network's speed on it, then the tests that only run there.
bench-gpu: $(VENV)/test.stamp
	$(BIN)/posemamba bench lifter --device cuda
	$(BIN)/pytest -m requires_cuda

# Files for animators, opened in Blender's own Python package, which needs Python 3.11 (bpy 4.2 to 5.0) or 3.13 (5.1).
.PHONY: blender
blender: $(VENV)/run.stamp build/blender/bpy.stamp
	$(BIN)/posemamba run assets/walk_wave.mp4 -o out/blender --rigid-bones --no-overlay --formats json,csv,glb,bvh
	build/blender/bin/python tests/blender/check_exports.py out/blender/walk_wave

build/blender/bpy.stamp: $(BIN)/uv
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 build/blender
	$(BIN)/uv pip install --quiet --python build/blender/bin/python bpy
	touch $@

.PHONY: docs docs/cli.md space

# The documentation as a site, in build/site.
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The page of the command line, from its help.
docs/cli.md: $(VENV)/run.stamp
	$(BIN)/python -m typer app.cli.main utils docs --name posemamba --title 'Command line' --output $@

# What is uploaded to a Hugging Face Space: the committed files, the Space's settings on top of README.
space:
	rm -rf build/space && mkdir -p build/space
	git archive HEAD | tar -x -C build/space
	cd build/space && cat .github/space-header.md README.md > README && mv README README.md

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

$(VENV)/docs.stamp: $(VENV)/run.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt --editable '.[mediapipe,docs]'
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --build-constraint constraints.txt --editable '.[mediapipe,yolo,ui,dev]'
	touch $@
