# syntax=docker/dockerfile:1
# The web app:   docker build -t posemamba . && docker run --rm -p 7860:7860 posemamba
# With a GPU:    docker build --build-arg TORCH=cuda -t posemamba . && docker run --rm --gpus all -p 7860:7860 posemamba
# A batch:       docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" posemamba posemamba run /data/clips -o /data/out
ARG PYTHON=3.12
# cpu: from PyTorch's own index, without CUDA. cuda: PyPI's build, which brings CUDA 13 along; the host needs its driver only.
ARG TORCH=cpu

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH
# Extras beside the web app and MediaPipe: "yolo" (AGPL-3.0), "dist".
ARG EXTRAS=mediapipe,ui
# Compiled here because the image's user cannot write beside the sources.
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/pose3d
RUN python3 -m pip install --quiet --target /srv/uv uv==0.13.8 && python3 -m venv --without-pip .venv
ENV VIRTUAL_ENV=/srv/pose3d/.venv
COPY pyproject.toml constraints.txt ./
# The environment is a layer of its own: code changes do not download it again. OpenCV without windows, at the same version:
# the other one needs 220 MB of X and OpenGL libraries to be imported.
RUN if [ "${TORCH}" != cuda ]; then export UV_TORCH_BACKEND="${TORCH}"; fi \
    && printf '.[%s]\n' "${EXTRAS}" > wanted.txt \
    && /srv/uv/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-package posemamba-wild \
    --constraint constraints.txt wanted.txt -o needed.txt \
    && sed -i -E 's/^opencv-(contrib-)?python==/opencv-contrib-python-headless==/' needed.txt \
    && /srv/uv/bin/uv pip install --quiet --no-deps -r needed.txt \
    && rm wanted.txt needed.txt
COPY setup.py LICENSE NOTICE README.md app.py ./
COPY app app
COPY detectors detectors
COPY lifter lifter
COPY checkpoints checkpoints
COPY assets assets
RUN /srv/uv/bin/uv pip install --quiet --no-deps --build-constraint constraints.txt --editable . \
    && .venv/bin/python -m compileall -q app checkpoints detectors lifter && rm -rf build ./*.egg-info

FROM python:${PYTHON}-slim-bookworm
ARG TORCH
# Triton, which runs the scan on a GPU, needs a C compiler to start its kernels.
# hadolint ignore=DL3008
RUN if [ "${TORCH}" = cuda ]; then \
    apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; fi \
    && useradd --uid 1000 pose
COPY --from=build /srv/pose3d /srv/pose3d
# Downloaded weights land here.
RUN install -d -o pose /srv/pose3d/checkpoints/downloaded
USER 1000:1000
WORKDIR /srv/pose3d
# HOME is where libraries put their caches: with /tmp the rest can be read-only.
ENV PATH=/srv/pose3d/.venv/bin:$PATH HOME=/tmp OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
VOLUME ["/srv/pose3d/checkpoints/downloaded"]
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
CMD ["posemamba", "ui", "--host", "0.0.0.0", "--port", "7860"]
