# r2tuning on a CPU. Build and ask:
#   docker build -t r2tuning .
#   docker run --rm -v r2tuning:/cache -v "$PWD:/videos" r2tuning ground trip.mp4 "the dog catches the frisbee"
# Serve a library, with the token that it prints:
#   docker run --rm -p 8420:8420 -v r2tuning:/cache -v "$PWD:/videos" r2tuning serve --root /videos --host 0.0.0.0
# The volume keeps downloaded models and the library. Files in /videos must be readable, and for output the folder writable, by user 1000;
# add --user "$(id -u):0" to be yourself.

FROM python:3.12.11-slim-bookworm AS build
RUN python -m venv /opt/r2tuning
WORKDIR /build
COPY constraints.txt pyproject.toml README.md LICENSE ./
# The index has torch==2.13.0+cpu, which pip prefers to the version without a suffix, with gigabytes of CUDA. torch comes
# first and alone, so that a change of the code does not download it again.
RUN /opt/r2tuning/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt torch
COPY src src
# Others: docker build --build-arg EXTRAS=server,mcp,onnx -t r2tuning .
ARG EXTRAS=server
RUN /opt/r2tuning/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt ".[$EXTRAS]"

FROM python:3.12.11-slim-bookworm
COPY --from=build /opt/r2tuning /opt/r2tuning
# Group 0 may write too, for those who run it as another user.
RUN useradd --uid 1000 --gid 0 --create-home r2tuning \
    && install -d -o 1000 -g 0 -m 775 /cache /videos
ENV PATH=/opt/r2tuning/bin:$PATH \
    R2TUNING_CACHE=/cache/r2tuning \
    R2TUNING_LIBRARY=/cache/library \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib
VOLUME /cache
WORKDIR /videos
USER 1000:0
# No HEALTHCHECK: most commands answer and end. Of `serve`, /health can be asked.
ENTRYPOINT ["r2tuning"]
CMD ["--help"]
