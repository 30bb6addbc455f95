# syntax=docker/dockerfile:1
# The web app:   docker build -t posemamba . && docker run --rm -p 7860:7860 posemamba
# With a GPU:    docker build --build-arg TORCH=cu130 -t posemamba . && docker run --rm --gpus all -p 7860:7860 posemamba
# A batch:       docker run --rm -v "$PWD:/data" posemamba posemamba run /data/clips -o /data/out
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# cpu, or a CUDA version as uv's --torch-backend has it: cu130, cu128, ...
ARG TORCH=cpu
# Extras beside the web app and MediaPipe: "yolo" (AGPL-3.0), "dist".
ARG EXTRAS=mediapipe,ui
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/pose3d
RUN python -m venv .venv && .venv/bin/python -m pip install --no-cache-dir --quiet uv==0.13.8
COPY pyproject.toml setup.py constraints.txt LICENSE NOTICE README.md ./
COPY lifter/scan/kernel.cpp lifter/scan/kernel.cpp
# The environment is a layer of its own: code changes do not download it again.
RUN .venv/bin/uv pip compile --quiet --no-header --no-annotate --constraint constraints.txt \
    $(printf '%s' "${EXTRAS}" | sed 's/[^,]*/--extra &/g; s/,/ /g') pyproject.toml -o needed.txt \
    && .venv/bin/uv pip install --no-cache --quiet --python .venv/bin/python --torch-backend "${TORCH}" \
    --constraint constraints.txt -r needed.txt && rm needed.txt
COPY app.py ./
COPY app app
COPY detectors detectors
COPY lifter lifter
COPY checkpoints checkpoints
COPY assets assets
RUN .venv/bin/uv pip install --no-cache --quiet --python .venv/bin/python --no-deps \
    --build-constraint constraints.txt --editable . && .venv/bin/python -m compileall -q app detectors lifter

FROM python:${PYTHON}-slim-bookworm
RUN useradd --create-home --uid 1000 pose
COPY --from=build --chown=root:root /srv/pose3d /srv/pose3d
# Downloaded weights land here; a named volume begins with the shipped ones.
RUN chown -R pose /srv/pose3d/checkpoints
USER pose
WORKDIR /srv/pose3d
ENV PATH=/srv/pose3d/.venv/bin:$PATH OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
VOLUME ["/srv/pose3d/checkpoints"]
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/', timeout=4)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
