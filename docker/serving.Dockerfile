# Lookup over HTTP from the live release of a store, without torch and Prefect. From the root of the repository:
#   docker build -f docker/serving.Dockerfile -t recsys-cl-serving .
FROM python:3.11-slim-bookworm AS builder
WORKDIR /src
RUN python -m venv --without-pip /venv
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY recsys_cl recsys_cl
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /venv/bin/python install --only-binary :all: -c constraints.txt '.[serve]'

FROM python:3.11-slim-bookworm
RUN python -m pip uninstall --yes pip setuptools wheel \
    && groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin recsys \
    && install --directory --owner 10001 --group 10001 /store
COPY --from=builder /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
VOLUME /store
WORKDIR /store
EXPOSE 8000
USER 10001:10001
# /health and not /ready: an old release that answers while a new one is refused is no reason to start anew.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["recsys-cl", "serve", "--store", "/store", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--token-file", "/run/secrets/serving_token"]
