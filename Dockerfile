# The image with LightEx that brings folders on S3 to Kubernetes' nodes and takes runs back (docs/storage.md).
#   docker build -t registry.example.com/lightex:1 .
ARG PYTHON=python:3.12-slim
FROM ${PYTHON}
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir '/src[s3]' && rm -rf /src
CMD ["lx", "--help"]
