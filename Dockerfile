# Two images from one build:
#
#   docker build --target operator --tag tenantry/operator:0.1.0 .
#   docker build --target api      --tag tenantry/api:0.1.0      .
#
# They hold Python, the packages that requirements-runtime.lock pins by hash, and Tenantry's own modules; no
# compiler, no pip, nothing that can be written to. They run as the user 65532 with a read-only root file system;
# /tmp is the only folder anything is written to.

ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS packages
COPY requirements-runtime.lock /build/
# Wheels only: nothing is compiled, and no package's build code runs.
RUN python -m venv --without-pip /opt/tenantry \
 && python -m pip --python /opt/tenantry/bin/python install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: --requirement /build/requirements-runtime.lock

FROM packages AS code
COPY crds/tenantry_crds /operator/tenantry_crds
COPY operator/tenantry_operator /operator/tenantry_operator
COPY api/tenantry_api /api/tenantry_api
COPY LICENSE /licenses/
# Readable whatever the umask of the checkout was; compiled here, since it cannot be when it runs.
RUN cp -R /operator/. /api/ \
 && /opt/tenantry/bin/python -m compileall -q /operator /api \
 && chmod -R u=rwX,go=rX /operator /api /licenses

FROM ${PYTHON} AS base
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
 && groupadd --gid 65532 tenantry \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin tenantry
COPY --from=packages /opt/tenantry /opt/tenantry
COPY --from=code /licenses /licenses
ENV PATH=/opt/tenantry/bin:$PATH \
    PYTHONPATH=/opt/tenantry/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=tenantry
WORKDIR /tmp
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.vendor="Tenantry" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS operator
LABEL org.opencontainers.image.title="tenantry-operator" \
      org.opencontainers.image.description="Kubernetes operator for the tenants of a SaaS product"
COPY --from=code /operator /opt/tenantry/app
# Metrics, health.
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "tenantry_operator"]

FROM base AS api
LABEL org.opencontainers.image.title="tenantry-api" \
      org.opencontainers.image.description="REST facade for the tenants of a SaaS product"
COPY --from=code /api /opt/tenantry/app
ENV TENANTRY_API_HOST=0.0.0.0
EXPOSE 8000
ENTRYPOINT ["python", "-m", "tenantry_api"]
