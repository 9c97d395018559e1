# Worker, Prefect's server and the command line, with torch and Prefect. From the root of the repository:
#   docker build -f docker/pipeline.Dockerfile -t recsys-cl-pipeline .
FROM python:3.11-slim-bookworm AS builder
# Where torch may come from, beside the usual index: for Linux that one has a torch with CUDA, several GB. Empty: nowhere.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv --without-pip /venv
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install --only-binary :all: --no-deps -c constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY recsys_cl recsys_cl
COPY flows flows
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install --only-binary :all: -c constraints.txt '.[flows,postgres]'

FROM python:3.11-slim-bookworm
RUN python -m pip uninstall --yes pip setuptools wheel \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin recsys \
    && install --directory --owner 10001 --group 10001 /store
COPY --from=builder /venv /venv
COPY flows /app/flows
COPY prefect.yaml /app/
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_WORKER_WEBSERVER_PORT=8080
VOLUME /store
# Deployments name their flows by paths from here.
WORKDIR /app
USER 10001:10001
# The worker answers as long as it has asked for work in the last minutes.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=5)"]
# No entry point: Prefect and people start other commands in it, too.
CMD ["prefect", "--no-prompt", "worker", "start", "--pool", "recsys-cl", "--type", "process", "--limit", "1", "--with-healthcheck"]
