FROM python:3.13-slim

# Logs appear as they are written, not when a buffer is full.
ENV PYTHONUNBUFFERED=1

WORKDIR /app
RUN useradd --system --create-home --uid 10001 bouncer

# Before the code, so that a change of the code does not reinstall everything.
COPY requirements.txt .
RUN python -m pip install --no-cache-dir --require-hashes --requirement requirements.txt

# What .dockerignore lets through.
COPY . .

USER bouncer

# Models that plugins fetch: none today, Silero's is in its package. A plugin added later is served by this line.
RUN python -m livekit.agents download-files

# `/` is 200 while the LiveKit server knows the worker, `/worker` tells its load and rooms; BOUNCER_PORT moves it.
EXPOSE 8081
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", "import http.client, os; \
    port = os.environ.get('BOUNCER_PORT', ''); host = os.environ.get('BOUNCER_HOST') or '127.0.0.1'; \
    asked = http.client.HTTPConnection(host, int(port) if port.isdecimal() else 8081, timeout=3); \
    asked.request('GET', '/'); raise SystemExit(asked.getresponse().status != 200)"]

# SIGTERM drains: the worker takes no more rooms, and hands those it has over to other workers.
CMD ["python", "-m", "livekit.agents", "start", "agent.py"]
