FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /app
# The build tools first, from the same lock: one data package and the project
# itself are built from source, and fetch nothing while they are.
COPY requirements.lock ./
RUN awk '/^[a-z]/ { on = /^setuptools==/ } on' requirements.lock > build.lock \
    && /app/bin/pip install --no-cache-dir --require-hashes --no-deps -r build.lock \
    && /app/bin/pip install --no-cache-dir --require-hashes --no-build-isolation -r requirements.lock
COPY pyproject.toml ./
COPY streamflow ./streamflow
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 streamflow \
    && install --directory --owner streamflow /data
COPY --from=build /app /app
COPY --chown=streamflow topologies /home/streamflow/topologies
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH=/home/streamflow
WORKDIR /home/streamflow
USER streamflow
VOLUME /data
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6066/live', timeout=4)"]
ENTRYPOINT ["streamflow"]
CMD ["--help"]
