#!/bin/bash
# Train on SLURM: a job that reaches its time limit is requeued and resumes the same run.
#
#   sbatch --nodes=2 --gpus-per-node=4 model/train_on_slurm.sh --preset seqdance --output runs/seqdance --table ...
#
# All options are those of seqdance train; --output is required, and all paths must be on a file system that the nodes share.
# Options of sbatch take precedence over the lines below. Activate the Python environment in the submitting shell.

#SBATCH --job-name=seqdance
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=24
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
# The last line: 120 seconds before the time limit the step gets SIGUSR1; training saves and exits.

set -euo pipefail

run=""
previous=""
for word in "$@"; do
    case "$word" in --output=*) run="${word#--output=}" ;; esac
    if [ "$previous" = --output ]; then run="$word"; fi
    previous="$word"
done
if [ -z "$run" ]; then
    echo "error: no --output among the options; name the folder of the run" >&2
    exit 2
fi

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))

# torchrun restarts all processes when one has died. On several nodes each start needs a store of its own
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"

# On each node: pass SIGUSR1 on to the processes that torchrun has started (it would kill torchrun itself), and SIGTERM,
# of a job that makes room for another one, to torchrun
step='
trap "" USR1
torchrun "$@" &
torchrun=$!
trap "pkill -USR1 -P $torchrun" USR1
trap "kill -TERM $torchrun" TERM
while wait $torchrun; status=$?; kill -0 $torchrun 2>/dev/null; do :; done  # a signal came, not the end
exit $status
'
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash -c "$step" torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="$SLURM_GPUS_ON_NODE" --max-restarts=3 \
    --rdzv-id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" --rdzv-backend=c10d --rdzv-endpoint="$head_node:$port" \
    -m model.train_ddp --resume auto "$@"

last=$(python -c 'import json, sys
config = json.load(open(sys.argv[1]))["config"]
print(min(config["updates"], config["stop_after"] or config["updates"]))' "$run/config.json")
if [ -d "$run/checkpoints/update_$last" ]; then
    echo "$run: update $last is done"
else
    scontrol requeue "$SLURM_JOB_ID"
fi
