# SeqDance with all commands but those of SLURM and a browser.
#
#   docker build -t seqdance .                                   PyTorch for CPUs
#   docker build -t seqdance --build-arg TORCH=cu130 .           PyTorch for NVIDIA GPUs; run with --gpus all --ipc=host
#   docker run --rm -v "$PWD:/work" -v "$HOME/.cache/huggingface:/root/.cache/huggingface" \
#       seqdance score --model esmdance --fasta proteins.fasta --output scores.csv
#   docker run --rm -p 8050:8050 seqdance app --host 0.0.0.0     the page, at http://localhost:8050/
FROM python:3.11-slim
ARG TORCH=cpu
RUN apt-get update && apt-get install --yes --no-install-recommends mmseqs2 gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/seqdance
COPY . .
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url "https://download.pytorch.org/whl/${TORCH}" \
    "torch==2.13.0+${TORCH}" ".[prepare,train,nmr,parquet,excel,app]"
WORKDIR /work
ENTRYPOINT ["seqdance"]
CMD ["--help"]
