# docker build -f deploy/gatekeeper.Dockerfile -t bouncer-gatekeeper .
# The console's libraries, as `make assets` copies them.
FROM node:22-slim AS assets
WORKDIR /page
COPY gatekeeper/page/package.json gatekeeper/page/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund && mkdir vendor && \
    cp node_modules/preact/dist/preact.module.js vendor/preact.js && \
    cp node_modules/preact/hooks/dist/hooks.module.js vendor/hooks.js && \
    cp node_modules/htm/dist/htm.module.js vendor/htm.js && \
    cp node_modules/preact/LICENSE vendor/preact.LICENSE && cp node_modules/htm/LICENSE vendor/htm.LICENSE

FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1

WORKDIR /app
RUN useradd --system --create-home --uid 10001 bouncer

COPY requirements.txt requirements-gatekeeper.txt ./
RUN python -m pip install --no-cache-dir --require-hashes --requirement requirements.txt --requirement requirements-gatekeeper.txt

COPY bouncer bouncer
COPY gatekeeper gatekeeper
COPY policies policies
COPY --from=assets /page/vendor gatekeeper/page/vendor

# The history; mount a volume there to keep it.
RUN mkdir /data && chown bouncer /data
ENV BOUNCER_DATABASE_URL=sqlite:////data/bouncer.db

USER bouncer

# Webhooks on /livekit and /bouncer, the console, /healthz, /readyz, /metrics.
EXPOSE 8088

CMD ["python", "-m", "bouncer", "gatekeeper", "--host", "0.0.0.0"]
